//! The labels on everything a lab makes, and how to read them. What has no lab label is never touched.

use std::collections::HashMap;

use crate::model::NodeName;
pub(super) use crate::runtime::owner::label::LAB;
use crate::runtime::{Owner, owner};

/// The node's name.
pub(super) const NODE: &str = "replab.node";
/// On a template image: its hash.
pub(super) const TEMPLATE: &str = "replab.template";
/// On the container that makes a template: its owner as JSON. Blank in the image made from it, because containers
/// inherit the labels of their image.
pub(super) const MAKER: &str = "replab.maker";

/// Labels as the engine has them.
pub(super) type Labels = HashMap<String, String>;

/// The labels of everything of this owner's lab.
pub(super) fn of_lab(owner: &Owner) -> Labels {
    owner::to_labels(owner).into_iter().collect()
}

/// The labels of one node.
pub(super) fn of_node(owner: &Owner, node: &NodeName) -> Labels {
    let mut labels = of_lab(owner);
    labels.insert(NODE.to_owned(), node.to_string());
    // Whatever the image has: a node isn't its maker's.
    labels.insert(MAKER.to_owned(), String::new());
    labels
}

/// The owner, where all of it can be read.
pub(super) fn owner_of(labels: &Labels) -> Option<Owner> {
    if let Some(json) = labels.get(MAKER).filter(|json| !json.is_empty()) {
        return serde_json::from_str(json).ok();
    }
    owner::from_labels(|key| filled(labels, key))
}

/// A label that is there and not blank.
pub(super) fn filled<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    labels.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

/// Whether replab made the thing with these labels.
pub(super) fn is_ours(labels: &Labels) -> bool {
    filled(labels, LAB).is_some() || filled(labels, MAKER).is_some()
}

/// A filter for the engine: things with this label, or with this label and value (`key=value`).
pub(super) fn filter(label: impl Into<String>) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![label.into()])])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn someone() -> Owner {
        let (lab, boot_id, pid_ns) = ("0011aabb".into(), "boot".into(), "pid:[1]".into());
        Owner { lab, pid: 7, pid_start: 99, boot_id, pid_ns, uid: 1000 }
    }

    #[test]
    fn an_owner_survives_the_labels() {
        assert_eq!(owner_of(&of_lab(&someone())), Some(someone()));
        let maker = HashMap::from([(MAKER.to_owned(), serde_json::to_string(&someone()).expect("plain data"))]);
        assert_eq!(owner_of(&maker), Some(someone()));
    }

    #[test]
    fn blank_labels_make_nothing_ours() {
        let blank = HashMap::from([(MAKER.to_owned(), String::new()), (LAB.to_owned(), String::new())]);
        assert!(!is_ours(&blank) && owner_of(&blank).is_none());
        assert!(is_ours(&of_lab(&someone())));
    }
}
