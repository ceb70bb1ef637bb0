//! Secrets of namespaces over the real programs: in by administrators, out to readers, and to pods by the driver of their
//! node. Tokens come from signers of the stories' own; the stories with a kubelet are those of the CSI driver.

mod bundles;
mod life;
mod pods;
mod support;
mod watch;
