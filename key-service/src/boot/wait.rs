//! Waiting for what is late: `/readyz` names it from the first look on, the log once, and it is looked for again until it is
//! here.

use std::time::Duration;

use strongroom_runtime::Condition;

use super::{BootError, late::Look};

/// How often something late is looked for again.
const RETRY: Duration = Duration::from_millis(500);

/// Looks until something is here, or a look shows that something is wrong.
pub(super) async fn until_here<T>(
    condition: &Condition,
    mut look: impl AsyncFnMut() -> Result<Look<T>, BootError>,
) -> Result<T, BootError> {
    let mut said = String::new();
    loop {
        match look().await? {
            Look::Here(found) => {
                if !said.is_empty() {
                    tracing::info!("what was missing is here");
                    condition.missing("it is here now, and is being checked");
                }
                return Ok(found);
            }
            Look::Late(sentence) if sentence == said => {}
            Look::Late(sentence) => {
                tracing::warn!(missing = sentence, "waiting");
                condition.missing(sentence.clone());
                said = sentence;
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use strongroom_runtime::Readiness;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_late_is_named_until_it_is_here() {
        let readiness = Readiness::default();
        let condition = readiness.condition("store");
        let mut looks = 0;
        let found = until_here(&condition, async || {
            looks += 1;
            if looks > 1 {
                let last = format!("look {} showed nothing", looks - 1);
                assert_eq!(readiness.missing(), [("store", last)]);
            }
            Ok(match looks {
                4 => Look::Here(looks),
                _ => Look::Late(format!("look {looks} showed nothing")),
            })
        });
        assert_eq!(found.await.expect("is here"), 4);
        let last = "it is here now, and is being checked".to_owned();
        assert_eq!(readiness.missing(), [("store", last)]);
    }

    #[tokio::test]
    async fn what_is_wrong_ends_the_waiting() {
        let condition = Readiness::default().condition("store");
        let ended: Result<(), _> = until_here(&condition, async || Err(BootError::Pin)).await;
        assert!(matches!(ended, Err(BootError::Pin)));
    }
}
