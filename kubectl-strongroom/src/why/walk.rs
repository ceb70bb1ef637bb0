//! The decision: from what was seen to the links of the chain. No IO.

use std::collections::BTreeSet;

use super::{
    access::{self, Question},
    chain::{self, Link, Part, State},
    observed::{Instance, Observed, PodSeen, SecretInService, Seen, ServiceCondition, Subject},
    volume::{self, DRIVER, Need, Volume, What},
};
use crate::cluster::objects::{
    Condition, Conditions, Event, KeyRing, ManagedSecret, Reference, SecretBundle,
};

/// The links from the subject to the HSM, in their order.
pub(super) fn walk(observed: &Observed) -> Vec<Link> {
    let mut walk = Walk {
        observed,
        links: Vec::new(),
        rings: BTreeSet::new(),
        told: BTreeSet::new(),
    };
    match &observed.subject {
        Subject::Pod(seen) => walk.pod(seen),
        Subject::Bundle(name) => {
            walk.bundle(name, false, None);
        }
        Subject::Secret(name) => walk.secret(&whole_secret(name, false), None),
    }
    walk.rings();
    walk.service();
    if let Subject::Pod(seen) = &observed.subject {
        walk.kubelet(seen);
    }
    walk.links
}

/// A pod without a volume of ours is not held up by us.
pub(super) fn is_concerned(observed: &Observed) -> bool {
    match &observed.subject {
        Subject::Pod(seen) => !volume::volumes(&seen.pod).is_empty(),
        Subject::Secret(_) | Subject::Bundle(_) => true,
    }
}

struct Walk<'a> {
    observed: &'a Observed,
    links: Vec<Link>,
    /// Names of rings that matter; none stands for one that nobody names.
    rings: BTreeSet<Option<String>>,
    /// Secrets and bundles that have their links already.
    told: BTreeSet<(Part, String)>,
}

fn whole_secret(name: &str, optional: bool) -> Need {
    Need {
        secret: name.to_owned(),
        field: None,
        optional,
    }
}

impl Walk<'_> {
    fn pod(&mut self, seen: &PodSeen) {
        let volumes = volume::volumes(&seen.pod);
        if volumes.is_empty() {
            return;
        }
        self.links.push(scheduled(seen));
        self.links.extend(volumes.iter().map(volume_link));
        self.links.push(driver(seen));
        for volume in &volumes {
            let Ok(wanted) = &volume.wanted else { continue };
            match &wanted.what {
                What::Bundle(name) => self.bundle(name, wanted.optional, Some(seen)),
                What::Secrets(names) => {
                    for name in names {
                        self.secret(&whole_secret(name, wanted.optional), Some(seen));
                    }
                }
            }
        }
    }

    fn bundle(&mut self, name: &str, optional: bool, pod: Option<&PodSeen>) {
        let Observed {
            namespace, bundles, ..
        } = self.observed;
        let link = Link::new(Part::Bundle, format!("sb/{name}"));
        let bundle = match bundles.get(name) {
            Some(Seen::There(bundle)) => bundle,
            Some(Seen::Hidden(why)) => return self.links.push(link.not_seen(why.clone())),
            Some(Seen::Missing) | None => {
                let sentence = format!("there is no SecretBundle {namespace}/{name}");
                return self.absent(link, "NoBundle", sentence, optional);
            }
        };
        if self.told.insert((Part::Bundle, name.to_owned())) {
            self.links
                .push(readiness(link, bundle.metadata.generation, &bundle.status));
            self.rings.insert(ring_of(
                bundle.status.key_ring.as_deref(),
                bundle.spec.key_ring_ref.as_ref(),
            ));
        }
        for need in volume::needs(bundle, optional) {
            self.secret(&need, pod);
        }
    }

    fn secret(&mut self, need: &Need, pod: Option<&PodSeen>) {
        let Observed {
            namespace, secrets, ..
        } = self.observed;
        let name = &need.secret;
        let link = Link::new(Part::Secret, format!("msec/{name}"));
        let secret = match secrets.get(name) {
            Some(Seen::There(secret)) => secret,
            Some(Seen::Hidden(why)) => return self.links.push(link.not_seen(why.clone())),
            Some(Seen::Missing) | None => {
                let sentence = format!("there is no ManagedSecret {namespace}/{name}");
                return self.absent(link, "NotFound", sentence, need.optional);
            }
        };
        if self.told.insert((Part::Secret, name.clone())) {
            self.secret_and_access(link, need, secret, pod);
        }
        self.field(need, secret);
    }

    /// A secret that is there. The key service asks for the role before anything else, so that a missing role comes before a
    /// value that nobody has set.
    fn secret_and_access(
        &mut self,
        link: Link,
        need: &Need,
        secret: &ManagedSecret,
        pod: Option<&PodSeen>,
    ) {
        let link = self.secret_state(link, secret, need.optional);
        let access = pod
            .filter(|_| link.state != State::Waits)
            .map(|seen| self.access(secret, seen));
        let lacks_value = link.state == State::NotYet;
        let mut links = vec![link];
        links.extend(access);
        if lacks_value {
            links.reverse();
        }
        self.links.extend(links);
        self.rings.insert(ring_of(
            secret.status.key_ring.as_deref(),
            secret.spec.key_ring_ref.as_ref(),
        ));
    }

    fn access(&self, secret: &ManagedSecret, seen: &PodSeen) -> Link {
        access::link(&Question {
            namespace: &self.observed.namespace,
            account: account(seen),
            seen: &seen.account,
            secret,
            ring: self.ring_for(secret),
            instance: self.instance(),
        })
    }

    /// An object that is not there. Where the namespace has no ring that is told instead, as the key service does: the object
    /// would be of no use.
    fn absent(&mut self, link: Link, reason: &str, sentence: String, optional: bool) {
        let has_ring = match &self.observed.rings {
            Seen::There(rings) => !rings.is_empty(),
            Seen::Missing => false,
            Seen::Hidden(_) => true,
        };
        self.links.push(if optional {
            link.whole("is not there, and need not be")
        } else if has_ring {
            link.broken(reason, sentence)
        } else {
            self.rings.insert(None);
            link.waits(reason, sentence)
        });
    }

    /// A file that asks for a field that the secret never has.
    fn field(&mut self, need: &Need, secret: &ManagedSecret) {
        let Some(field) = need.field.as_deref().filter(|_| !need.optional) else {
            return;
        };
        let mut fields = secret.spec.source.fields().peekable();
        // A source that this program does not know has fields that it does not know.
        if fields.peek().is_none() || fields.any(|known| known == field) {
            return;
        }
        let Need { secret: name, .. } = need;
        let namespace = &self.observed.namespace;
        let link = Link::new(Part::Secret, format!("msec/{name}"));
        self.links.push(link.broken(
            "FieldMissing",
            format!(
                "ManagedSecret {namespace}/{name} has no field {field}; name one of its fields in the SecretBundle"
            ),
        ));
    }

    fn secret_state(&self, link: Link, secret: &ManagedSecret, optional: bool) -> Link {
        let Observed { namespace, .. } = self.observed;
        let name = &secret.metadata.name;
        let no_value = |link: Link| {
            let sentence = format!(
                "ManagedSecret {namespace}/{name} has no value yet; set it with `kubectl strongroom secret set`"
            );
            if optional {
                link.whole("has no value yet, and need not")
            } else {
                link.not_yet("AwaitingValue", sentence)
            }
        };
        let in_service = self
            .instance()
            .and_then(|instance| instance.secrets.get(name));
        match in_service {
            Some(SecretInService::There {
                version: Some(version),
                ..
            }) => return link.whole(format!("version {version}")),
            Some(SecretInService::There { version: None, .. }) => return no_value(link),
            Some(SecretInService::Missing) | None => {}
        }
        let status = &secret.status;
        let is_awaiting = status.phase.as_deref() == Some("AwaitingValue")
            || ready(status).is_some_and(|ready| ready.reason == "AwaitingValue");
        if is_awaiting {
            return no_value(link);
        }
        let link = readiness(link, secret.metadata.generation, status);
        match (&status.version, link.state) {
            (Some(version), State::Whole) => link.whole(format!("version {version}")),
            _ => link,
        }
    }

    fn instance(&self) -> Option<&Instance> {
        self.observed.instance.as_ref()?.as_ref().ok()
    }

    fn ring_for(&self, secret: &ManagedSecret) -> Option<&KeyRing> {
        let rings = self.observed.rings.there()?;
        let name = ring_of(
            secret.status.key_ring.as_deref(),
            secret.spec.key_ring_ref.as_ref(),
        );
        match name {
            Some(name) => rings.iter().find(|ring| ring.metadata.name == name),
            None => rings.first().filter(|_| rings.len() == 1),
        }
    }

    fn rings(&mut self) {
        for name in std::mem::take(&mut self.rings) {
            let link = self.ring(name.as_deref());
            if !self.links.contains(&link) {
                self.links.push(link);
            }
        }
    }

    fn ring(&self, name: Option<&str>) -> Link {
        let Observed {
            namespace, rings, ..
        } = self.observed;
        let object = |name: &str| Link::new(Part::KeyRing, format!("kr/{name}"));
        let rings = match rings {
            Seen::There(rings) => rings.as_slice(),
            Seen::Missing => &[],
            Seen::Hidden(why) => return object(name.unwrap_or("?")).not_seen(why.clone()),
        };
        let ring = match (name, rings) {
            (Some(name), rings) => match rings.iter().find(|ring| ring.metadata.name == name) {
                Some(ring) => ring,
                None => {
                    return object(name).broken(
                        "NoKeyRing",
                        format!("there is no KeyRing {namespace}/{name}; the platform makes it"),
                    );
                }
            },
            (None, [ring]) => ring,
            (None, []) => {
                return object("?").broken(
                    "NoKeyRing",
                    format!("there is no KeyRing in namespace {namespace}; the platform makes it"),
                );
            }
            (None, _) => {
                return object("?").broken(
                    "SeveralKeyRings",
                    format!(
                        "namespace {namespace} has several KeyRings; name one under spec.keyRingRef"
                    ),
                );
            }
        };
        let link = object(&ring.metadata.name);
        let former = ready(&ring.status)
            .filter(|ready| ready.status != "True" && ready.reason == "OwnedByFormerNamespace");
        match former {
            Some(ready) => link.broken(&ready.reason, former_namespace(namespace, ring)),
            None => readiness(link, ring.metadata.generation, &ring.status),
        }
    }

    fn service(&mut self) {
        let service = self.key_service();
        self.links.extend(service);
        match &self.observed.instance {
            None => {}
            Some(Err(why)) => {
                let link = Link::new(Part::KeyService, "asked with your certificate");
                self.links.push(link.not_seen(why.clone()));
            }
            Some(Ok(instance)) => {
                self.links
                    .extend(instance.conditions.iter().filter_map(service_link));
            }
        }
    }

    /// What the operator wrote about the key service, and about the HSM behind it.
    fn key_service(&self) -> Vec<Link> {
        let link = Link::new(Part::KeyService, "keyservice/default");
        let service = match &self.observed.service {
            Seen::There(service) => service,
            Seen::Hidden(why) => return vec![link.not_seen(why.clone())],
            Seen::Missing => {
                return vec![link.broken(
                    "NoKeyService",
                    "there is no KeyService default, which the operator makes; look whether the chart strongroom is \
                     installed and its operator runs",
                )];
            }
        };
        let status = &service.status;
        let service = match ready(status) {
            Some(ready) if ready.status == "True" => link.whole("Ready"),
            Some(ready) if serves(ready) => link.whole(format!("serves; {}", ready.message)),
            Some(ready) if ready.reason == "AwaitingInit" => {
                link.not_yet(&ready.reason, ready.message.clone())
            }
            Some(ready) => link.broken(&ready.reason, ready.message.clone()),
            None => link.waits("Unobserved", "the operator has not looked at it yet"),
        };
        let hsm = status.condition("HSMAvailable").map(|hsm| {
            let link = Link::new(Part::Hsm, "keyservice/default");
            match hsm.status.as_str() {
                "True" => link.whole("answers"),
                _ => link.broken(&hsm.reason, hsm.message.clone()),
            }
        });
        [service].into_iter().chain(hsm).collect()
    }

    /// What kubelet said last, when nothing else explains it.
    fn kubelet(&mut self, seen: &PodSeen) {
        let waits = seen.pod.status.phase.as_deref() == Some("Pending");
        if !waits || chain::broken(&self.links).is_some() {
            return;
        }
        let Some(event) = seen
            .events
            .iter()
            .filter(|event| event.reason == "FailedMount")
            .max_by_key(|event| event.last_timestamp.or(event.event_time))
        else {
            return;
        };
        let link = Link::new(Part::Kubelet, "FailedMount");
        self.links.push(failed_mount(link, event));
    }
}

/// Of what the key service says of itself, what keeps values from being read.
fn service_link(condition: &ServiceCondition) -> Option<Link> {
    let part = match condition.r#type.as_str() {
        "Ready" => Part::KeyService,
        "HSMAvailable" => Part::Hsm,
        _ => return None,
    };
    let link = Link::new(part, format!("condition {}", condition.r#type));
    Some(if condition.ok {
        link.whole(condition.reason.clone())
    } else {
        link.broken(&condition.reason, condition.message.clone())
    })
}

/// A degraded key service goes on giving values; what stops it is told as not being ready, or is the HSM's own link.
fn serves(ready: &Condition) -> bool {
    ready.reason == "Degraded" && !ready.message.starts_with("Ready:")
}

fn former_namespace(namespace: &str, ring: &KeyRing) -> String {
    let name = &ring.metadata.name;
    format!(
        "KeyRing {namespace}/{name} belongs to a namespace of this name that is no more; an administrator gives it to this \
         one with `kubectl strongroom ring adopt {name} -n {namespace} --reason …`"
    )
}

/// The ring that is named; none where it is the only one of the namespace.
fn ring_of(resolved: Option<&str>, written: Option<&Reference>) -> Option<String> {
    resolved
        .map(str::to_owned)
        .or_else(|| written.map(|reference| reference.name.clone()))
}

fn ready(status: &impl Conditions) -> Option<&Condition> {
    status.condition("Ready")
}

/// What the conditions of an object say that the operator keeps.
fn readiness(link: Link, generation: Option<i64>, status: &impl Conditions) -> Link {
    let is_looked_at = status.observed_generation() >= generation;
    match ready(status) {
        Some(ready) if ready.status == "True" => link.whole("Ready"),
        Some(_) if !is_looked_at => {
            link.waits("Unobserved", "the operator looks at its last change")
        }
        Some(ready) => {
            let stalled = status
                .condition("Stalled")
                .is_some_and(|stalled| stalled.status == "True");
            if stalled {
                link.broken(&ready.reason, ready.message.clone())
            } else {
                link.waits(&ready.reason, ready.message.clone())
            }
        }
        None => link.waits("Unobserved", "the operator has not looked at it yet"),
    }
}

fn scheduled(seen: &PodSeen) -> Link {
    let name = &seen.pod.metadata.name;
    let link = Link::new(Part::Pod, format!("pod/{name}"));
    match &seen.pod.spec.node_name {
        Some(node) => link.whole(format!("on node {node}")),
        None => link.not_yet(
            "Unscheduled",
            format!("the pod has no node yet, so nothing is mounted; `kubectl describe pod {name}` says why"),
        ),
    }
}

fn volume_link(volume: &Volume) -> Link {
    let link = Link::new(Part::Volume, volume.name.clone());
    match &volume.wanted {
        Err(sentence) => link.broken("InvalidVolume", sentence.clone()),
        Ok(wanted) => match &wanted.what {
            What::Bundle(name) => link.whole(format!("asks for SecretBundle {name}")),
            What::Secrets(names) => {
                link.whole(format!("asks for ManagedSecret {}", names.join(", ")))
            }
        },
    }
}

fn driver(seen: &PodSeen) -> Link {
    let link = Link::new(Part::Driver, DRIVER);
    if matches!(seen.driver, Seen::Missing) {
        return link.broken(
            "NoDriver",
            format!("the cluster has no CSIDriver {DRIVER}; install the chart strongroom"),
        );
    }
    let Some((name, node)) = seen.pod.spec.node_name.as_ref().zip(seen.node.as_ref()) else {
        return link.whole("is there");
    };
    match node {
        Seen::There(node) if node.spec.drivers.iter().any(|driver| driver.name == DRIVER) => {
            link.whole(format!("runs on node {name}"))
        }
        Seen::There(_) | Seen::Missing => link.not_yet(
            "DriverNotOnNode",
            format!(
                "the CSI driver does not run on node {name} yet; look at the pods of DaemonSet strongroom-csi-driver"
            ),
        ),
        Seen::Hidden(why) => link.not_seen(why.clone()),
    }
}

fn account(seen: &PodSeen) -> &str {
    seen.pod
        .spec
        .service_account_name
        .as_deref()
        .unwrap_or("default")
}

/// kubelet's event holds the driver's answer between its own words.
fn failed_mount(link: Link, event: &Event) -> Link {
    let (code, sentence) = match event.message.split_once("rpc error: code = ") {
        Some((_, answer)) => answer.split_once(" desc = ").unwrap_or(("", answer)),
        None => ("", event.message.as_str()),
    };
    let sentence = format!("kubelet said last: {sentence}");
    match code {
        "PermissionDenied" | "Unauthenticated" => link.denied(code, sentence),
        "FailedPrecondition" | "Unavailable" | "DeadlineExceeded" | "Aborted" => {
            link.not_yet(code, sentence)
        }
        "" => link.broken("FailedMount", sentence),
        code => link.broken(code, sentence),
    }
}

/// The secrets that a bundle needs, for those who look.
pub(super) fn secrets_of(bundle: &SecretBundle) -> impl Iterator<Item = String> {
    volume::needs(bundle, false)
        .into_iter()
        .map(|need| need.secret)
}
