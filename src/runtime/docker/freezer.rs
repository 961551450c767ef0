//! Whether an engine can freeze containers: some can't (without root where control groups are of the first kind, some sandboxes). That is
//! tried on a container that runs. Knows no nodes.

use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::CreateContainerOptions;

use super::connect::Engine;
use super::failure::{self, plain};
use super::image::Image;
use super::{confine, node, template, wait};
use crate::runtime::{Result, owner};

const WHAT: &str = "try to freeze a container";
/// The container stays for as long as this may take.
const STAYS: &str = "30";
const LIMIT: Duration = Duration::from_secs(20);

/// Why containers of this image can't be frozen here, if so: tried on one that is made for it, and removed.
pub async fn no_freezer(engine: &Engine, image: &Image) -> Result<Option<String>> {
    let docker = &engine.docker;
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: Some(vec!["sleep".to_owned(), STAYS.to_owned()]),
        cmd: Some(Vec::new()),
        user: Some(confine::USER.to_owned()),
        labels: Some(confine::maker(&owner::current(owner::new_lab_id()), WHAT)?),
        host_config: Some(HostConfig { tmpfs: Some(template::instead_of_volumes(&image.volumes)), ..confine::alone() }),
        ..ContainerCreateBody::default()
    };
    let made = docker.create_container(None::<CreateContainerOptions>, body).await;
    let id = made.map_err(|err| failure::engine(WHAT, &err))?.id;
    let tried = tokio::time::timeout(LIMIT, async {
        docker.start_container(&id, None).await.map_err(|err| failure::engine(WHAT, &err))?;
        refusal(docker, &id).await
    });
    let tried = tried.await.unwrap_or_else(|_| Err(failure::too_late(WHAT, LIMIT)));
    wait::remove(docker, &id, WHAT).await?;
    tried
}

/// Why this container, which runs, can't be frozen, if so. One that has ended meanwhile tells nothing, and is taken for one that can.
pub(super) async fn refusal(docker: &Docker, id: &str) -> Result<Option<String>> {
    let asked = docker.pause_container(id).await;
    let state = node::state(docker, id, WHAT).await?;
    match asked {
        Ok(()) if state.paused == Some(true) => node::pause(docker, id, false, WHAT).await.map(|()| None),
        Ok(()) if state.running == Some(true) => {
            Ok(Some("it says that a container is frozen, and it is not".to_owned()))
        }
        Err(err) if failure::status(&err).is_none() => Err(failure::engine(WHAT, &err)),
        Err(err) if state.running == Some(true) => Ok(Some(plain(WHAT, failure::reason(&err)).why)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Scripted;
    use super::*;

    async fn tried(status: u16, state: &str) -> Option<String> {
        let body = br#"{"message":"nie ma jak"}"#.to_vec();
        let state = format!(r#"{{"Id":"c1","State":{state}}}"#).into_bytes();
        let engine = Scripted::new(vec![
            ("POST", "/pause", status, body),
            ("POST", "/unpause", 204, Vec::new()),
            ("GET", "/containers/c1/json", 200, state),
        ]);
        refusal(&engine.docker, "c1").await.expect("an answer")
    }

    #[tokio::test]
    async fn what_runs_and_is_not_frozen_cant_be() {
        assert_eq!(tried(204, r#"{"Running":true,"Paused":true}"#).await, None);
        assert_eq!(tried(500, r#"{"Running":true,"Paused":false}"#).await.as_deref(), Some("nie ma jak"));
        assert_eq!(tried(409, r#"{"Running":true,"Paused":false}"#).await.as_deref(), Some("nie ma jak"));
        assert!(tried(204, r#"{"Running":true,"Paused":false}"#).await.is_some());
        assert_eq!(tried(409, r#"{"Running":false,"Paused":false}"#).await, None, "it ended meanwhile");
    }
}
