//! KMS v2 plugin for kube-apiserver.
#![forbid(unsafe_code)]
