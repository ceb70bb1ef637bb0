//! The driver as kubelet and pods meet it: on real tmpfs in mount namespaces of the tests' own, which takes root.

mod bundle;
mod outage;
mod process;
mod publish;
mod support;
mod swap;
mod volume;
