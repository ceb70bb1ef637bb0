//! What kubelet asks over the driver's sockets, and what pods have of it.

use std::fs;

use strongroom_api::{
    csi::v1::{NodeGetCapabilitiesRequest, NodeGetInfoRequest},
    kubernetes::pluginregistration::v1::{InfoRequest, RegistrationStatus},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, Status};

use crate::support::{
    fake::sent,
    in_own_mounts, mounts_below, place_of, run,
    stage::{POD_TOKEN, Stage},
};

#[test]
fn kubelet_finds_the_driver_and_learns_what_it_can() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            let missing =
                |driver: &crate::support::stage::Driver| driver.handle.readiness.missing();
            assert_eq!(missing(&driver)[0].0, "registration");

            let info = stage
                .registration()
                .get_info(InfoRequest {})
                .await
                .unwrap()
                .into_inner();
            let path = stage.path("plugins/csi.strongroom.dev/csi.sock");
            assert_eq!(
                (
                    info.r#type.as_str(),
                    info.name.as_str(),
                    info.endpoint.as_str()
                ),
                ("CSIPlugin", "csi.strongroom.dev", path.to_str().unwrap())
            );
            assert_eq!(info.supported_versions, ["1.0.0"]);
            let status = RegistrationStatus {
                plugin_registered: true,
                error: String::new(),
            };
            stage
                .registration()
                .notify_registration_status(status)
                .await
                .unwrap();
            assert_eq!(missing(&driver), []);

            let info = stage
                .node()
                .node_get_info(NodeGetInfoRequest {})
                .await
                .unwrap();
            assert_eq!(info.into_inner().node_id, "node-0");
            let request = NodeGetCapabilitiesRequest {};
            let can = stage
                .node()
                .node_get_capabilities(request)
                .await
                .unwrap()
                .into_inner();
            assert_eq!(can.capabilities.len(), 3);
        });
    });
}

/// What grpc-go sends when it dials a path: the preface, empty settings, the fields of `GetInfo` and an empty message.
fn greeting_of_kubelet() -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let fields = [
        &b"\x83\x86\x45"[..],
        &text("/pluginregistration.Registration/GetInfo"),
        b"\x41",
        &text("%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fcsi.strongroom.dev-reg.sock"),
        b"\x5f",
        &text("application/grpc"),
        b"\x40",
        &text("te"),
        &text("trailers"),
    ]
    .concat();
    let length = u8::try_from(fields.len()).unwrap();
    [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        &[0, 0, length, 1, 4, 0, 0, 0, 1],
        &fields,
        &[0, 0, 5, 0, 1, 0, 0, 0, 1],
        &[0; 5],
    ]
    .concat()
}

#[test]
fn kubelet_is_understood_though_it_names_a_path_as_authority() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let _driver = stage.start().await;
            let path = stage.config.registration_socket();
            let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
            stream.write_all(&greeting_of_kubelet()).await.unwrap();
            loop {
                let mut header = [0; 9];
                stream.read_exact(&mut header).await.unwrap();
                let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
                let mut payload = vec![0; length as usize];
                stream.read_exact(&mut payload).await.unwrap();
                assert_ne!(header[3], 3, "the stream was reset");
                let text = String::from_utf8_lossy(&payload);
                if header[3] == 0 && text.contains("csi.strongroom.dev") {
                    break;
                }
            }
        });
    });
}

#[test]
fn driver_that_kubelet_refuses_ends_and_says_why() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            let status = RegistrationStatus {
                plugin_registered: false,
                error: "name is taken".to_owned(),
            };
            stage
                .registration()
                .notify_registration_status(status)
                .await
                .unwrap();
            let error = driver.handle.tasks.join().await.unwrap_err();
            let text = strongroom_runtime::Chain(&error).to_string();
            assert!(
                text.ends_with("refused to register the driver: name is taken"),
                "{text}"
            );
        });
    });
}

#[test]
fn volume_comes_is_read_conditionally_and_goes() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            driver.publish(&stage).await.unwrap();
            assert_eq!(stage.password(), "first");
            let mount = stage.kubelet.mount("secrets");
            assert_eq!(
                place_of(&mount.join("..data/db/password")),
                (0o440, 0, 1000)
            );
            assert_eq!(driver.metric("strongroom_csi_driver_volumes"), "1");
            assert!(!driver.condition(&stage).await.abnormal);

            for _ in 0..3 {
                driver.publish(&stage).await.unwrap();
            }
            let etag = stage.fake.etag();
            assert_eq!(stage.fake.facts().reads, ["", &etag, &etag, &etag]);
            stage.fake.rotate("second");
            driver.publish(&stage).await.unwrap();
            assert_eq!(stage.password(), "second");
            assert_eq!(mounts_below(&stage.path("pods")), 1);

            let path = mount.to_str().unwrap().to_owned();
            for _ in 0..2 {
                driver.unpublish(&path).await.unwrap();
                assert!(!mount.exists());
            }
            assert_eq!(mounts_below(&stage.path("")), 0);
            assert_eq!(driver.metric("strongroom_csi_driver_volumes"), "0");
        });
    });
}

#[test]
fn many_publishes_at_once_make_one_mount() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            let mut publishes = tokio::task::JoinSet::new();
            for _ in 0..40 {
                let (mut node, request) = (stage.node(), stage.request("secrets", POD_TOKEN));
                publishes.spawn(async move { node.node_publish_volume(request).await });
            }
            for outcome in publishes.join_all().await {
                outcome.unwrap();
            }
            assert_eq!(mounts_below(&stage.path("")), 1);
            driver.stop().await;
        });
    });
}

#[test]
fn first_publish_that_fails_says_why_and_leaves_nothing() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            let sentence =
                "ServiceAccount payments/api has no role SecretReader on ManagedSecret payments/db";
            for status in [
                Status::permission_denied(sentence),
                Status::unauthenticated("TokenExpired"),
                Status::not_found("there is no such secret"),
                Status::failed_precondition("AwaitingValue"),
                Status::unavailable("sealed"),
            ] {
                stage.fake.facts().failure = Some(status.clone());
                let refused = driver.publish(&stage).await.unwrap_err();
                assert_eq!(
                    (refused.code(), refused.message(), refused.details()),
                    (status.code(), status.message(), &[][..])
                );
                assert!(!stage.kubelet.mount("secrets").exists());
                assert_eq!(driver.metric("strongroom_csi_driver_volumes"), "0");
            }
            assert_eq!(mounts_below(&stage.path("")), 0);
            // After the mend it works without a hand.
            stage.fake.facts().failure = None;
            driver.publish(&stage).await.unwrap();
            assert_eq!(stage.password(), "first");
        });
    });
}

#[test]
fn missing_token_and_hostile_files_leave_nothing() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            let mut without = stage.request("secrets", POD_TOKEN);
            without.secrets.clear();
            let refused = driver.send(without).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated);
            assert_eq!(stage.fake.facts().reads.len(), 0);

            let large = "x".repeat(600 << 10);
            for (file, code) in [
                (sent("../../../etc/passwd", "x"), Code::Internal),
                (sent("..data", "x"), Code::Internal),
                (sent("db/password", "x"), Code::Internal),
                (sent("large", &large), Code::FailedPrecondition),
            ] {
                stage.fake.facts().more = vec![file];
                let refused = driver.publish(&stage).await.unwrap_err();
                assert_eq!(refused.code(), code, "{refused}");
                assert!(!stage.kubelet.mount("secrets").exists());
            }
        });
    });
}

#[test]
fn stats_are_of_published_volumes_only() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            driver.publish(&stage).await.unwrap();
            let mount = stage.kubelet.mount("secrets");
            let path = mount.to_str().unwrap();
            let stats = driver.stats("csi-secrets", path).await.unwrap();
            assert_eq!(stats.usage[0].total, 1 << 20);
            assert_eq!(stats.usage[0].used, 4096);
            assert_eq!(stats.usage[1].total, 256);
            for (id, path, code) in [
                ("", path, Code::InvalidArgument),
                ("csi-secrets", "", Code::InvalidArgument),
                ("csi-secrets", "some/path", Code::NotFound),
                ("csi-other", path, Code::NotFound),
                (
                    "csi-secrets",
                    stage.kubelet.mount("other").to_str().unwrap(),
                    Code::NotFound,
                ),
            ] {
                let refused = driver.stats(id, path).await.map(|_| ()).unwrap_err();
                assert_eq!(refused.code(), code, "{id} {path}");
            }
        });
    });
}

#[test]
fn unpublish_is_fine_whatever_is_there() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            let mount = stage.kubelet.mount("secrets");
            for path in [
                mount.to_str().unwrap(),
                "/etc",
                "some/path",
                stage.kubelet.mount("never").to_str().unwrap(),
            ] {
                driver.unpublish(path).await.unwrap();
            }
            assert!(fs::exists("/etc/passwd").unwrap());
            fs::create_dir_all(mount.join("left/over")).unwrap();
            driver.unpublish(mount.to_str().unwrap()).await.unwrap();
            assert!(!mount.exists());
            assert_eq!(
                driver.unpublish("").await.unwrap_err().code(),
                Code::InvalidArgument
            );
        });
    });
}
