//! How many streams a node has open: the driver's, and its successor's while one replaces the other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use strongroom_core::{Name, ObjectId};

/// Most streams of one node.
pub(super) const STREAMS_PER_NODE_MAX: u32 = 2;

/// A node of a cluster.
pub(super) type Node = (Name, ObjectId);

/// All open streams.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<Node, u32>>>);

/// The place of one stream; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    streams: Streams,
    node: Node,
}

impl Streams {
    /// Takes a place; none when the node has all that it may have.
    pub(super) fn admit(&self, node: Node) -> Option<Place> {
        let mut open = self.open();
        let count = open.entry(node.clone()).or_default();
        if *count >= STREAMS_PER_NODE_MAX {
            return None;
        }
        *count += 1;
        Some(Place {
            streams: self.clone(),
            node,
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Node, u32>> {
        // Each step leaves whole numbers behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        if let Some(count) = open.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> Node {
        let id = ObjectId {
            name: "worker".parse().expect("a name"),
            uid: format!("uid-{number}").parse().expect("a uid"),
        };
        ("east".parse().expect("a DNS label"), id)
    }

    #[test]
    fn a_node_has_two_streams_and_a_stream_that_ends_gives_its_place_back() {
        let streams = Streams::default();
        let first = streams.admit(node(1)).expect("is the first");
        let _second = streams.admit(node(1)).expect("is the second");
        assert!(streams.admit(node(1)).is_none());
        assert!(streams.admit(node(2)).is_some(), "another node");
        drop(first);
        assert!(streams.admit(node(1)).is_some());
        assert_eq!(streams.open().len(), 1, "what is not used is forgotten");
    }
}
