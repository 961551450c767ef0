//! Finds, checks and pulls the base image. Knows no labs.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, CreateImageInfo, HostConfig, ImageConfig, ImageInspect};
use bollard::query_parameters::{CreateContainerOptions, CreateImageOptionsBuilder, LogsOptionsBuilder};
use futures_util::StreamExt;

use super::confine;
use super::connect::Engine;
use super::failure::{self, hinted, plain};
use super::text::safe_text;
use super::{template, wait};
use crate::model::POSTGRES;
use crate::runtime::{Progress, Result, owner, versions};

/// A pull is given up after this long without any progress.
const PULL_PATIENCE: Duration = Duration::from_secs(10);
/// How long `postgres --version` may take in a container.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Which image to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageChoice {
    /// An image the person named; nothing else is tried then.
    pub explicit: Option<String>,
    /// Else PostgreSQL's major version.
    pub major: u32,
}

impl Default for ImageChoice {
    fn default() -> Self {
        Self { explicit: None, major: POSTGRES }
    }
}

impl ImageChoice {
    /// Names to look for on this machine, best first.
    fn names(&self) -> Vec<String> {
        match &self.explicit {
            Some(name) => vec![name.clone()],
            None => vec![format!("postgres:{}", self.major), self.built_name()],
        }
    }

    /// The name to pull.
    fn pulled_name(&self) -> String {
        self.explicit.clone().unwrap_or_else(|| format!("postgres:{}", self.major))
    }

    /// What to build where the image that is named is one that only the recipe makes: no registry has it.
    pub fn of_our_own(&self) -> Option<Self> {
        let major = self.explicit.as_ref()?.strip_prefix("replab/postgres:")?.parse().ok()?;
        Some(Self { explicit: None, major })
    }

    /// The name of the image that the recipe makes.
    pub(super) fn built_name(&self) -> String {
        format!("replab/postgres:{}", self.major)
    }
}

/// A base image that is on this machine and will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Its exact id.
    pub id: String,
    /// PostgreSQL's major version in it.
    pub major: u32,
    /// Something a person should know: this version is newer than the tested ones.
    pub warning: Option<String>,
    /// Folders the image declares as volumes.
    pub(super) volumes: Vec<String>,
}

/// The image if it is on this machine. An error when it is and won't do.
pub async fn find_image(engine: &Engine, choice: &ImageChoice) -> Result<Option<Image>> {
    for name in choice.names() {
        match engine.docker.inspect_image(&name).await {
            Ok(found) => return look_into(engine, name, found).await.map(Some),
            Err(err) if failure::is_missing(&err) => {}
            Err(err) => return Err(failure::engine(format!("look for image {name}"), &err)),
        }
    }
    Ok(None)
}

async fn look_into(engine: &Engine, name: String, found: ImageInspect) -> Result<Image> {
    let what = format!("use image {name}");
    let id = found.id.ok_or_else(|| plain(&what, "the engine told no id"))?;
    let config = found.config.unwrap_or_default();
    let major = match major_of_env(&config) {
        Some(major) => major,
        None => ask_major(engine, &id, config.volumes.as_deref().unwrap_or_default(), &what).await?,
    };
    let warning = versions::judge(major).map_err(|why| hinted(&what, why, "choose another version: --postgres 18"))?;
    Ok(Image { name, id, major, warning, volumes: config.volumes.unwrap_or_default() })
}

fn major_of_env(config: &ImageConfig) -> Option<u32> {
    let mut values = config.env.iter().flatten().filter_map(|pair| pair.strip_prefix("PG_MAJOR="));
    values.next()?.parse().ok()
}

/// Runs `postgres --version` in a container of that image. No lab is there yet: this process alone is its owner.
async fn ask_major(engine: &Engine, image: &str, volumes: &[String], what: &str) -> Result<u32> {
    let docker = &engine.docker;
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["postgres".to_owned()]),
        cmd: Some(vec!["--version".to_owned()]),
        user: Some(confine::USER.to_owned()),
        labels: Some(confine::maker(&owner::current(owner::new_lab_id()), what)?),
        host_config: Some(HostConfig { tmpfs: Some(template::instead_of_volumes(volumes)), ..confine::alone() }),
        ..ContainerCreateBody::default()
    };
    let made = docker.create_container(None::<CreateContainerOptions>, body).await;
    let id = made.map_err(|err| failure::engine(what, &err))?.id;
    let told = told_version(engine, &id, what).await;
    wait::remove(docker, &id, what).await?;
    let told = told?;
    version_number(&told)
        .and_then(versions::major_of)
        .ok_or_else(|| plain(what, format!("`postgres --version` says: {told}")))
}

async fn told_version(engine: &Engine, id: &str, what: &str) -> Result<String> {
    let docker = &engine.docker;
    docker.start_container(id, None).await.map_err(|err| failure::engine(what, &err))?;
    wait::until_stopped(docker, id, ASK_LIMIT, what).await?;
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    let parts = docker.logs(id, Some(options)).filter_map(async |part| part.ok()).map(|part| part.to_string());
    Ok(parts.collect::<Vec<_>>().await.concat().trim().to_owned())
}

/// "17.11" of "postgres (PostgreSQL) 17.11 (Debian 17.11-1)".
pub(super) fn version_number(told: &str) -> Option<&str> {
    let number = told.split("(PostgreSQL) ").nth(1)?.split_whitespace().next()?;
    number.starts_with(|c: char| c.is_ascii_digit()).then_some(number)
}

/// Pulls the image from its registry.
pub async fn pull(engine: &Engine, choice: &ImageChoice, progress: &Progress) -> Result<Image> {
    let name = choice.pulled_name();
    let what = format!("pull {name}");
    let (repo, tag) = split_tag(&name);
    let options = CreateImageOptionsBuilder::new().from_image(repo).tag(tag).build();
    let mut told = Box::pin(engine.docker.create_image(Some(options), None, None));
    let mut layers = Layers::default();
    let mut patience = tokio::time::Instant::now() + PULL_PATIENCE;
    let hint = "check the network, or name an image that is here: --image NAME";
    loop {
        let next = tokio::time::timeout_at(patience, told.next()).await;
        let info = match next {
            Err(_) => return Err(hinted(&what, format!("no progress for {} s", PULL_PATIENCE.as_secs()), hint)),
            Ok(None) => break,
            Ok(Some(Err(err))) => return Err(hinted(&what, failure::reason(&err), hint)),
            Ok(Some(Ok(info))) => info,
        };
        if let Some(line) = layers.note(info) {
            patience = tokio::time::Instant::now() + PULL_PATIENCE;
            // Whoever started this may have stopped listening; the pull goes on.
            let _ = progress.send(format!("pulling {name}: {line}"));
        }
    }
    let found = find_image(engine, choice).await?;
    found.ok_or_else(|| plain(what, "it was pulled, but isn't here"))
}

/// The repository and the tag of an image's name; a port is no tag.
fn split_tag(name: &str) -> (&str, &str) {
    if name.contains('@') {
        return (name, "");
    }
    match name.rsplit_once(':') {
        Some((repo, tag)) if !tag.contains('/') => (repo, tag),
        _ => (name, "latest"),
    }
}

/// What is known of each layer of a pull.
#[derive(Default)]
struct Layers(HashMap<String, (String, i64, i64)>);

impl Layers {
    /// A line for people when this is progress. "Retrying" and the same again are none.
    fn note(&mut self, info: CreateImageInfo) -> Option<String> {
        let status = info.status?;
        if status.starts_with("Retrying") || status == "Waiting" {
            return None;
        }
        let id = info.id.unwrap_or_default();
        let (current, total) = info.progress_detail.map_or((0, 0), |d| (d.current.unwrap_or(0), d.total.unwrap_or(0)));
        let known = (status.clone(), current, total);
        if self.0.insert(id, known.clone()) == Some(known) {
            return None;
        }
        let sums = self.0.values().filter(|(status, ..)| status == "Downloading");
        let (done, all) = sums.fold((0, 0), |sum, (_, current, total)| (sum.0 + current, sum.1 + total));
        Some(match all {
            0 => safe_text(&status),
            _ => format!("{} of {} MB", done / 1_000_000, all / 1_000_000),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    #[test]
    fn the_official_image_comes_before_ours() {
        assert_eq!(ImageChoice::default().names(), ["postgres:18", "replab/postgres:18"]);
        let named = ImageChoice { explicit: Some("my/pg".into()), major: 17 };
        assert_eq!((named.names(), named.of_our_own()), (vec!["my/pg".to_owned()], None));
        let ours = ImageChoice { explicit: Some("replab/postgres:16".into()), major: 18 };
        assert_eq!(ours.of_our_own(), Some(ImageChoice { explicit: None, major: 16 }));
    }

    #[test]
    fn a_version_is_read() {
        assert_eq!(version_number("postgres (PostgreSQL) 17.11 (Debian 17.11-1)"), Some("17.11"));
        assert_eq!(version_number("postgres (PostgreSQL) 19beta1"), Some("19beta1"));
        assert_eq!(version_number("sh: postgres: not found"), None);
    }

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(split_tag("postgres:18"), ("postgres", "18"));
        assert_eq!(split_tag("host:5000/pg"), ("host:5000/pg", "latest"));
        assert_eq!(split_tag("host:5000/pg:17"), ("host:5000/pg", "17"));
        assert_eq!(split_tag("pg@sha256:ab"), ("pg@sha256:ab", ""));
    }

    #[test]
    fn waiting_is_no_progress() {
        let info = |status: &str, current| CreateImageInfo {
            id: Some("a".into()),
            status: Some(status.into()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(9_000_000) }),
            ..CreateImageInfo::default()
        };
        let mut layers = Layers::default();
        assert_eq!(layers.note(info("Downloading", 2_000_000)).as_deref(), Some("2 of 9 MB"));
        assert_eq!(layers.note(info("Downloading", 2_000_000)), None);
        assert_eq!(layers.note(info("Retrying in 5 seconds", 1)), None);
    }
}
