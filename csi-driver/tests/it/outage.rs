//! The key service goes away, rotates under a running pod, is another one; the driver is replaced.

use std::fs;

use strongroom_api::strongroom::v1::watch_event::Event;
use tonic::{Code, Status};

use crate::support::{
    in_own_mounts, mounts_below, run,
    stage::{POD_TOKEN, Stage, eventually},
};

const FAILED: &str = r#"strongroom_csi_driver_refreshes_total{outcome="failed"}"#;

#[test]
fn rotation_is_seen_without_a_publish() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            driver.publish(&stage).await.unwrap();
            eventually("the volume is subscribed", async || {
                !stage.fake.facts().subscriptions.is_empty()
            })
            .await;
            eventually("the stream is counted", async || {
                driver.metric("strongroom_csi_driver_watch_connected") == "1"
            })
            .await;
            stage.fake.rotate("second");
            stage.fake.tell(&Event::Etag(stage.fake.etag()));
            eventually("the file is the new one", async || {
                stage.password() == "second"
            })
            .await;

            // The stream comes back by itself, with the driver's token as it is then.
            fs::write(stage.path("token"), "driver-token-2\n").unwrap();
            stage.fake.facts().bearer = "driver-token-2".to_owned();
            stage.fake.hang_up();
            eventually("the volume is subscribed again", async || {
                !stage.fake.facts().subscriptions.is_empty()
            })
            .await;
            stage.fake.rotate("third");
            stage.fake.tell(&Event::Etag(stage.fake.etag()));
            eventually("the file is the third", async || {
                stage.password() == "third"
            })
            .await;

            // A newer token of the pod replaces the subscription; a volume that is gone is not watched.
            let newer = "pod-token-newer";
            driver.send(stage.request("secrets", newer)).await.unwrap();
            eventually("the newer token is known", async || {
                let facts = stage.fake.facts();
                facts.subscriptions.values().all(|it| it.pod_token == newer)
            })
            .await;
            let mount = stage.kubelet.mount("secrets");
            driver.unpublish(mount.to_str().unwrap()).await.unwrap();
            eventually("nothing is subscribed", async || {
                stage.fake.facts().subscriptions.is_empty()
            })
            .await;
        });
    });
}

#[test]
fn files_stay_while_the_key_service_is_away_and_their_age_is_shown() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            driver.publish(&stage).await.unwrap();
            stage.service.stop();
            stage.service.join().await.unwrap();

            driver.publish(&stage).await.unwrap();
            assert_eq!(stage.password(), "first");
            assert_eq!(driver.metric(FAILED), "1");
            eventually("the condition is abnormal", async || {
                driver.condition(&stage).await.abnormal
            })
            .await;
            let message = driver.condition(&stage).await.message;
            assert!(
                message.starts_with("the key service does not answer: "),
                "{message}"
            );
            assert!(message.contains("; last confirmed "), "{message}");
            assert_eq!(driver.metric("strongroom_csi_driver_volumes_abnormal"), "1");

            // A new volume waits, with a sentence and the code for "not now".
            let folder = stage.kubelet.mount("other");
            fs::create_dir_all(folder.parent().unwrap()).unwrap();
            let refused = driver
                .send(stage.request("other", POD_TOKEN))
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Code::Unavailable);
            assert!(
                refused
                    .message()
                    .starts_with("the key service does not answer"),
                "{refused}"
            );
            assert!(!folder.exists());

            let (_, _service) = stage.fake.serve(stage.address).await;
            stage.fake.rotate("second");
            driver.publish(&stage).await.unwrap();
            assert_eq!(stage.password(), "second");
            assert!(!driver.condition(&stage).await.abnormal);
            driver
                .send(stage.request("other", POD_TOKEN))
                .await
                .unwrap();
            assert!(folder.join("db/password").exists());
        });
    });
}

#[test]
fn refusal_of_a_published_volume_is_no_error_for_kubelet() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            driver.publish(&stage).await.unwrap();
            stage.fake.facts().failure = Some(Status::permission_denied("no role SecretReader"));
            driver.publish(&stage).await.unwrap();
            let condition = driver.condition(&stage).await;
            assert!(condition.abnormal);
            assert!(
                condition.message.starts_with("no role SecretReader; "),
                "{}",
                condition.message
            );
            let mut without = stage.request("secrets", POD_TOKEN);
            without.secrets.clear();
            driver.send(without).await.unwrap();
            assert_eq!(stage.password(), "first");
            assert_eq!(mounts_below(&stage.path("")), 1);
        });
    });
}

#[test]
fn another_instance_and_an_earlier_epoch_are_not_believed() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            stage.fake.facts().epoch = 3;
            driver.publish(&stage).await.unwrap();
            stage.fake.rotate("put back");
            stage.fake.facts().epoch = 2;
            driver.publish(&stage).await.unwrap();
            assert_eq!(stage.password(), "first");
            stage.fake.facts().epoch = 3;
            stage.fake.facts().instance = "f".repeat(32);
            driver.publish(&stage).await.unwrap();
            assert_eq!(stage.password(), "first");
            assert_eq!(driver.metric(FAILED), "2");
        });
    });
}

#[test]
fn next_driver_takes_the_volumes_over() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            driver.publish(&stage).await.unwrap();
            driver.stop().await;
            assert_eq!(stage.password(), "first");
            stage.fake.rotate("second");
            stage.fake.hang_up();

            let driver = stage.start().await;
            assert_eq!(driver.metric("strongroom_csi_driver_volumes"), "1");
            assert_eq!(stage.password(), "first");
            eventually("the key service is told that it is there", async || {
                stage.fake.facts().untold.len() == 1
            })
            .await;
            driver.publish(&stage).await.unwrap();
            assert_eq!(stage.password(), "second");
            eventually("the volume is subscribed", async || {
                !stage.fake.facts().subscriptions.is_empty()
            })
            .await;
            stage.fake.rotate("third");
            stage.fake.tell(&Event::Etag(stage.fake.etag()));
            eventually("the file is the third", async || {
                stage.password() == "third"
            })
            .await;
            let mount = stage.kubelet.mount("secrets");
            driver.unpublish(mount.to_str().unwrap()).await.unwrap();
            assert!(!mount.exists());
        });
    });
}

#[test]
fn next_driver_removes_what_kubelet_forgot_and_nothing_else() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            for volume in ["other", "foreign"] {
                let folder = stage.kubelet.mount(volume);
                fs::create_dir_all(folder.parent().unwrap()).unwrap();
            }
            driver.publish(&stage).await.unwrap();
            driver
                .send(stage.request("other", POD_TOKEN))
                .await
                .unwrap();
            driver.stop().await;
            // kubelet knows of `secrets` alone; what somebody else has mounted is not the driver's.
            let foreign = stage.kubelet.mount("foreign");
            fs::create_dir(&foreign).unwrap();
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("theirs", &foreign, "tmpfs", flags, None).unwrap();
            fs::write(foreign.join("theirs"), "x").unwrap();
            assert_eq!(mounts_below(&stage.path("")), 2);

            let driver = stage.start().await;
            assert_eq!(driver.metric("strongroom_csi_driver_volumes"), "1");
            assert_eq!(mounts_below(&stage.path("")), 1);
            assert!(!stage.kubelet.mount("other").exists());
            assert!(foreign.join("theirs").exists());
            assert_eq!(stage.password(), "first");
        });
    });
}

#[test]
fn volume_that_is_told_of_its_end_keeps_its_files_and_says_so() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            driver.publish(&stage).await.unwrap();
            eventually("the volume is subscribed", async || {
                !stage.fake.facts().subscriptions.is_empty()
            })
            .await;
            stage.fake.tell(&Event::Ended("TokenExpired".to_owned()));
            eventually("the condition tells it", async || {
                driver
                    .condition(&stage)
                    .await
                    .message
                    .contains("TokenExpired")
            })
            .await;
            assert_eq!(stage.password(), "first");
            stage.fake.facts().subscriptions.clear();
            driver.publish(&stage).await.unwrap();
            eventually("the volume is subscribed again", async || {
                !stage.fake.facts().subscriptions.is_empty()
            })
            .await;
        });
    });
}
