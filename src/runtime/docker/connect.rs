//! Finds the engine and connects to it. Knows nothing of labs.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::SystemInfoCgroupDriverEnum;
use bollard::{API_DEFAULT_VERSION, Docker};
use serde::Deserialize;

use super::failure::{self, hinted, plain};
use super::network;
use crate::runtime::Result;

/// How long the engine may take to say its version.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long an ordinary request may take to be answered; streams may go on for longer.
const REQUEST_LIMIT: Duration = Duration::from_mins(1);
/// The oldest engine API that will do (Docker 20.10).
const OLDEST_API: (usize, usize) = (1, 41);
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
const WHAT: &str = "connect to the Docker engine";

/// A connection to a Docker engine on this machine.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) docker: Docker,
    socket: PathBuf,
}

impl Engine {
    /// Connects to the engine that `docker` itself would use: `DOCKER_HOST`, else the current context, else the
    /// usual socket.
    pub async fn connect() -> Result<Self> {
        Self::at(&chosen()?).await
    }

    /// The same; None where there is no Docker: nobody names an engine, and the usual socket isn't there.
    pub async fn connect_if_any() -> Result<Option<Self>> {
        let socket = chosen()?;
        if socket == Path::new(DEFAULT_SOCKET) && !socket.exists() {
            return Ok(None);
        }
        Self::at(&socket).await.map(Some)
    }

    /// Connects to the engine behind this socket.
    pub async fn at(socket: &Path) -> Result<Self> {
        let path = socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&path, REQUEST_LIMIT.as_secs(), API_DEFAULT_VERSION)
            .map_err(|err| failure::engine(WHAT, &err))?;
        let negotiated = tokio::time::timeout(CONNECT_LIMIT, docker.negotiate_version()).await;
        let docker = negotiated
            .map_err(|_| hinted(WHAT, format!("{path} doesn't answer"), "restart it: systemctl restart docker"))?
            .map_err(|err| failure::engine(WHAT, &err))?;
        let api = docker.client_version();
        if (api.major_version, api.minor_version) < OLDEST_API {
            let why = format!("its API is {api}, and {}.{} is needed", OLDEST_API.0, OLDEST_API.1);
            return Err(hinted(WHAT, why, "install Docker 20.10 or newer"));
        }
        Ok(Self { docker, socket: socket.to_owned() })
    }

    /// The engine's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether it is the usual one and its networks are on this host: then so are the ports of its containers.
    pub(super) async fn is_near(&self) -> bool {
        let usual = [DEFAULT_SOCKET, "/run/docker.sock"].iter().any(|usual| self.socket == Path::new(usual));
        usual && network::is_near(&self.docker).await
    }

    /// Where the engine keeps containers, if that is a folder of this machine that can be looked at.
    pub async fn root_dir(&self) -> Option<PathBuf> {
        let info = self.docker.info().await.ok()?;
        info.docker_root_dir.map(PathBuf::from).filter(|path| path.exists())
    }

    /// Whether it is one of those that may not freeze containers: without root, or without control groups of its own. That is to be tried
    /// then; a lab tries all engines, but only when it makes its template.
    pub async fn may_lack_freezer(&self) -> bool {
        let info = self.docker.info().await.unwrap_or_default();
        let rootless = info.security_options.unwrap_or_default().iter().any(|option| option.contains("rootless"));
        rootless || info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::NONE)
    }

    /// The same engine, given more time for slow requests.
    pub(super) fn patient(&self, limit: Duration) -> Docker {
        self.docker.clone().with_timeout(limit)
    }
}

/// The engine's socket, for this process.
fn chosen() -> Result<PathBuf> {
    let folder = match env::var_os("DOCKER_CONFIG") {
        Some(folder) => Some(PathBuf::from(folder)),
        None => etcetera::home_dir().ok().map(|home| home.join(".docker")),
    };
    choose(|name| env::var(name).ok().filter(|value| !value.is_empty()), folder.as_deref())
}

/// The engine's socket, as the environment and the docker client's own files say.
fn choose(var: impl Fn(&str) -> Option<String>, folder: Option<&Path>) -> Result<PathBuf> {
    if let Some(host) = var("DOCKER_HOST") {
        return socket_of(&host, "DOCKER_HOST");
    }
    let context = var("DOCKER_CONTEXT").or_else(|| current_context(folder?));
    match (context, folder) {
        (Some(name), Some(folder)) if name != "default" => {
            let host = context_host(folder, &name)?;
            socket_of(&host, &format!("the Docker context {name}"))
        }
        _ => Ok(PathBuf::from(DEFAULT_SOCKET)),
    }
}

fn socket_of(host: &str, source: &str) -> Result<PathBuf> {
    if let Some(path) = host.strip_prefix("unix://").or_else(|| host.starts_with('/').then_some(host)) {
        return Ok(PathBuf::from(path));
    }
    let why = format!("{source} names {host}, and replab works with an engine on this machine only");
    Err(hinted(
        WHAT,
        why,
        "run replab there, or unset DOCKER_HOST and choose a local context: docker context use default",
    ))
}

#[derive(Deserialize)]
struct ClientConfig {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

fn current_context(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("config.json")).ok()?;
    let config: ClientConfig = serde_json::from_str(&text).ok()?;
    config.current_context.filter(|name| !name.is_empty())
}

#[derive(Deserialize)]
struct ContextMeta {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host")]
    host: Option<String>,
}

/// The folders are named by a hash; each file says which context it is.
fn context_host(folder: &Path, name: &str) -> Result<String> {
    let metas = std::fs::read_dir(folder.join("contexts").join("meta")).into_iter().flatten().flatten();
    let texts = metas.filter_map(|entry| std::fs::read_to_string(entry.path().join("meta.json")).ok());
    let mut contexts = texts.filter_map(|text| serde_json::from_str::<ContextMeta>(&text).ok());
    let context = contexts.find(|context| context.name == name);
    let host = context.and_then(|context| context.endpoints.docker?.host);
    host.ok_or_else(|| plain(WHAT, format!("the Docker context {name} isn't known, or names no engine")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(host: Option<&str>, context: Option<&str>, folder: Option<&Path>) -> Result<PathBuf> {
        let var = |name: &str| match name {
            "DOCKER_HOST" => host.map(str::to_owned),
            "DOCKER_CONTEXT" => context.map(str::to_owned),
            _ => None,
        };
        choose(var, folder)
    }

    #[test]
    fn the_host_variable_wins() {
        let path = chosen(Some("unix:///run/x.sock"), Some("other"), None).expect("a socket");
        assert_eq!(path, Path::new("/run/x.sock"));
    }

    #[test]
    fn a_remote_engine_is_refused_by_name() {
        for host in ["tcp://10.0.0.1:2376", "ssh://me@there", "npipe:////./pipe/docker"] {
            let err = chosen(Some(host), None, None).expect_err("remote");
            assert!(err.why.contains(host) && err.hint.is_some(), "{err}");
        }
    }

    #[test]
    fn the_current_context_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let meta = folder.path().join("contexts/meta/abc");
        std::fs::create_dir_all(&meta).expect("folders");
        let text = r#"{"Name":"mine","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///mine.sock"}}}"#;
        std::fs::write(meta.join("meta.json"), text).expect("a file");
        std::fs::write(folder.path().join("config.json"), r#"{"currentContext":"mine","auths":{}}"#).expect("a file");
        assert_eq!(chosen(None, None, Some(folder.path())).expect("a socket"), Path::new("/mine.sock"));
        assert_eq!(chosen(None, Some("default"), Some(folder.path())).expect("one"), Path::new(DEFAULT_SOCKET));
        assert!(chosen(None, Some("gone"), Some(folder.path())).expect_err("unknown").why.contains("gone"));
    }

    #[test]
    fn without_any_settings_it_is_the_usual_socket() {
        assert_eq!(chosen(None, None, None).expect("a socket"), Path::new(DEFAULT_SOCKET));
    }

    #[tokio::test]
    async fn a_missing_socket_says_how_to_start_the_engine() {
        let err = Engine::at(Path::new("/nowhere/docker.sock")).await.expect_err("no engine");
        assert_eq!(err.hint.as_deref(), Some(failure::START_HINT));
    }
}
