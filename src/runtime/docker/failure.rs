//! Turns the engine's errors into words for a person, with the next step where one is known. Knows no verbs.

use std::error::Error as _;
use std::time::Duration;

use bollard::errors::Error;

use super::text::safe_text;
use crate::runtime::RuntimeError;

/// What to try when the engine itself is in the way.
pub(super) const START_HINT: &str = "start it: systemctl start docker (or your Docker application)";

/// An engine of old may lose count of a network's endpoints when containers come and go in the same moment; then it refuses for
/// good, though `docker network inspect` shows none.
const ENDPOINTS_HINT: &str = "if no container is in that network (docker network inspect), the engine has lost count, as 20.10 \
    sometimes does: only a restart of the engine helps (systemctl restart docker), then run replab clean";

/// Somebody else has a node's port.
pub(super) const PORT_HINT: &str = "stop what listens on that port, or destroy this node and add it again";

/// An error of ours, with no hint.
pub(super) fn plain(what: impl Into<String>, why: impl AsRef<str>) -> RuntimeError {
    RuntimeError { what: what.into(), why: safe_text(why.as_ref()), hint: None }
}

/// An error of ours, with the next step.
pub(super) fn hinted(what: impl Into<String>, why: impl AsRef<str>, hint: impl Into<String>) -> RuntimeError {
    RuntimeError { hint: Some(hint.into()), ..plain(what, why) }
}

/// A deadline that passed.
pub(super) fn too_late(what: impl Into<String>, limit: Duration) -> RuntimeError {
    plain(what, format!("not done after {} s", limit.as_secs_f32()))
}

/// An error of the engine's.
pub(super) fn engine(what: impl Into<String>, err: &Error) -> RuntimeError {
    let why = reason(err);
    let hint = hint_for(&why);
    RuntimeError { what: what.into(), why: safe_text(&why), hint }
}

/// The cause, as short as it can be told.
pub(super) fn reason(err: &Error) -> String {
    match err {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        Error::RequestTimeoutError => "the engine doesn't answer in time".to_owned(),
        Error::SocketNotFoundError(path) => format!("there is no socket {path}"),
        Error::IOError { .. } | Error::HyperResponseError { .. } | Error::HyperLegacyError { .. } => lost(err),
        other => other.to_string(),
    }
}

/// A connection that failed: the innermost cause says most.
fn lost(err: &Error) -> String {
    let mut innermost = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        innermost = cause.to_string();
        next = cause.source();
    }
    format!("the connection to the engine failed: {innermost}")
}

/// Words of engines that were met, each with its next step. Nothing else may depend on words: other engines have others.
fn hint_for(why: &str) -> Option<String> {
    let table = [
        ("Permission denied", "let your user use the engine: sudo usermod -aG docker $USER, then log in again"),
        ("no socket", START_HINT),
        ("Connection refused", START_HINT),
        ("address already in use", PORT_HINT),
        ("port is already allocated", PORT_HINT),
        ("no space left on device", "free some disk space: replab clean, or docker system prune"),
        ("is already in use by container", "remove what an earlier lab left: replab clean"),
        ("has active endpoints", ENDPOINTS_HINT),
    ];
    let wanted = |(sign, _): &&(&str, &str)| why.contains(sign);
    table.iter().find(wanted).map(|(_, hint)| (*hint).to_owned())
}

/// The HTTP status of an engine's answer.
pub(super) fn status(err: &Error) -> Option<u16> {
    match err {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Whether the engine says that the thing doesn't exist.
pub(super) fn is_missing(err: &Error) -> bool {
    status(err) == Some(404)
}

/// `Ok` also where the engine answered that the thing is gone already.
pub(super) fn gone_is_fine(result: Result<(), Error>, what: impl Into<String>) -> Result<(), RuntimeError> {
    match result {
        Err(err) if !is_missing(&err) => Err(engine(what, &err)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_plainly_with_the_next_step() {
        let message = "driver failed: listen tcp4 127.0.0.1:23999: bind: address already in use\n".to_owned();
        let err = engine("start p", &Error::DockerResponseServerError { status_code: 500, message });
        assert_eq!(err.why, "driver failed: listen tcp4 127.0.0.1:23999: bind: address already in use");
        assert!(err.hint.is_some_and(|hint| hint.contains("port")));
    }

    #[test]
    fn an_engine_that_lost_count_of_endpoints_is_told_of() {
        let message = "error while removing network: network replab-0011aabb id 5f has active endpoints\n".to_owned();
        let err = engine("remove network 5f", &Error::DockerResponseServerError { status_code: 403, message });
        let hint = err.hint.expect("a hint");
        assert!(hint.contains("only a restart of the engine helps") && hint.contains("replab clean"), "{hint}");
    }

    #[test]
    fn the_innermost_cause_is_shown() {
        let err = Error::IOError { err: std::io::Error::from(std::io::ErrorKind::ConnectionRefused) };
        assert!(reason(&err).contains("connection refused"), "{}", reason(&err));
    }
}
