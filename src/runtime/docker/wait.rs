//! Waiting for containers to stop, and removing them. Knows containers by id only.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::{RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::StreamExt;

use super::failure;
use crate::runtime::Result;

/// Waits until the container isn't running, and returns its exit code.
pub(super) async fn until_stopped(docker: &Docker, id: &str, limit: Duration, what: &str) -> Result<i64> {
    let waited = tokio::time::timeout(limit, stopped(docker, id)).await;
    waited.map_err(|_| failure::too_late(what, limit))?.map_err(|err| failure::engine(what, &err))
}

/// The exit code of a container, once it has stopped.
pub(super) async fn stopped(docker: &Docker, id: &str) -> std::result::Result<i64, Error> {
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let mut answers = Box::pin(docker.wait_container(id, Some(options)));
    match answers.next().await {
        Some(Ok(answer)) => Ok(answer.status_code),
        Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(err)) => Err(err),
        None => Err(Error::DockerStreamError { error: "the engine broke off".to_owned() }),
    }
}

/// Waits until the container is removed; it may be so already.
pub(super) async fn until_removed(docker: &Docker, id: &str, limit: Duration) -> bool {
    let options = WaitContainerOptionsBuilder::new().condition("removed").build();
    let mut answers = Box::pin(docker.wait_container(id, Some(options)));
    tokio::time::timeout(limit, answers.next()).await.is_ok()
}

/// Removes a container, running or not, with its anonymous volumes. Gone already is fine.
pub(super) async fn remove(docker: &Docker, id: &str, what: &str) -> Result<()> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match docker.remove_container(id, Some(options)).await {
        // Someone else may be removing it; that is waited for, so that afterwards it is gone.
        Err(err) if failure::status(&err).is_some() && goes(docker, id).await => {
            until_removed(docker, id, Duration::from_secs(20)).await;
            Ok(())
        }
        result => failure::gone_is_fine(result, what),
    }
}

/// Whether a container is there, and on its way out.
async fn goes(docker: &Docker, id: &str) -> bool {
    let found = docker.inspect_container(id, None).await;
    let status = found.ok().and_then(|found| found.state).and_then(|state| state.status);
    status == Some(ContainerStateStatusEnum::REMOVING)
}
