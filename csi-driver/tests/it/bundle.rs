//! Volumes that name a bundle, and volumes without which a pod may start.

use strongroom_api::strongroom::v1::{VolumeFile, watch_event::Event};
use tonic::{Code, Status};

use crate::support::{
    fake::{Fake, sent},
    in_own_mounts, listing, mounts_below, place_of, run,
    stage::{POD_TOKEN, Stage, eventually},
};

fn refusal(code: Code, reason: &str, sentence: &str) -> Status {
    let mut status = Status::new(code, sentence);
    let reason = reason.parse().expect("a word");
    status.metadata_mut().insert("strongroom-reason", reason);
    status
}

fn fails(fake: &Fake, failure: Option<Status>) {
    fake.facts().failure = failure;
}

#[test]
fn a_bundle_is_asked_for_by_name_and_its_files_have_the_owners_it_says() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            stage.fake.facts().more = vec![VolumeFile {
                mode: 0o400,
                uid: Some(1000),
                gid: Some(3000),
                ..sent("app.env", "DATABASE=x\n")
            }];
            let driver = stage.start().await;
            let mut request = stage.request("secrets", POD_TOKEN);
            request.volume_context.remove("secrets");
            request
                .volume_context
                .insert("bundle".to_owned(), "api".to_owned());
            driver.send(request).await.unwrap();
            let file = stage.kubelet.mount("secrets").join("..data/app.env");
            assert_eq!(place_of(&file), (0o400, 1000, 3000));
            eventually("the bundle is subscribed", async || {
                let facts = stage.fake.facts();
                let wants = facts.subscriptions.values().map(|it| it.want.clone());
                let wants: Vec<_> = wants.flatten().collect();
                wants.len() == 1 && wants[0].bundle == "api" && wants[0].secrets.is_empty()
            })
            .await;
        });
    });
}

#[test]
fn a_pod_may_start_without_what_is_not_there_and_gets_it_when_it_is() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            let mut request = stage.request("secrets", POD_TOKEN);
            let absent = || {
                refusal(
                    Code::NotFound,
                    "NotFound",
                    "there is no ManagedSecret payments/db",
                )
            };
            fails(&stage.fake, Some(absent()));
            let refused = driver.send(request.clone()).await.unwrap_err();
            assert_eq!(refused.code(), Code::NotFound);
            assert_eq!(mounts_below(&stage.path("")), 0);

            request
                .volume_context
                .insert("optional".to_owned(), "true".to_owned());
            driver.send(request.clone()).await.unwrap();
            let mount = stage.kubelet.mount("secrets");
            let users: Vec<_> = listing(&mount)
                .into_iter()
                .filter(|name| !name.starts_with(".."))
                .collect();
            assert_eq!(users, [""; 0]);
            let condition = driver.condition(&stage).await;
            assert!(!condition.abnormal, "{}", condition.message);
            assert!(
                condition.message.starts_with(
                    "there is no ManagedSecret payments/db; the pod may run without; "
                ),
                "{}",
                condition.message
            );
            // kubelet's next publish is fine as well, and the stream is there for what comes.
            driver.send(request).await.unwrap();
            eventually("the volume is subscribed", async || {
                let facts = stage.fake.facts();
                facts.subscriptions.values().any(|it| it.have.is_empty())
            })
            .await;
            fails(&stage.fake, None);
            stage.fake.tell(&Event::Etag(stage.fake.etag()));
            eventually("the file is there", async || stage.password() == "first").await;

            // What was there once is missed.
            fails(&stage.fake, Some(absent()));
            driver.publish(&stage).await.unwrap();
            assert!(driver.condition(&stage).await.abnormal);
            assert_eq!(stage.password(), "first");
        });
    });
}

#[test]
fn optional_is_no_way_around_a_refusal_or_an_outage() {
    in_own_mounts(|| {
        run(async {
            let stage = Stage::new().await;
            let driver = stage.start().await;
            let mut request = stage.request("secrets", POD_TOKEN);
            request
                .volume_context
                .insert("optional".to_owned(), "true".to_owned());
            for failure in [
                refusal(Code::PermissionDenied, "RoleMissing", "no role"),
                refusal(Code::FailedPrecondition, "TemplateFailed", "it failed"),
                Status::unavailable("the store cannot be used now; try again"),
            ] {
                let code = failure.code();
                fails(&stage.fake, Some(failure));
                let refused = driver.send(request.clone()).await.unwrap_err();
                assert_eq!(refused.code(), code);
                assert_eq!(mounts_below(&stage.path("")), 0);
            }
        });
    });
}
