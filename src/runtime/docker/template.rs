//! Makes the cluster template, an image with a cleanly stopped data directory in it, once for all labs. Knows no nodes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CommitContainerOptionsBuilder, CreateContainerOptionsBuilder};

use super::archive::{self, Account, Pack};
use super::confine;
use super::connect::Engine;
use super::failure::{self, plain};
use super::image::{Image, version_number};
use super::labels::{self, filled};
use super::text::safe_lines;
use super::{freezer, job, wait};
use crate::runtime::{Owner, Progress, Result, Template};

/// Raised when the way templates are made changes, so that older ones aren't used any more.
const RECIPE: u32 = 4;
const MAKE: &str = include_str!("make.sh");
const NODE: &str = include_str!("node.sh");
/// How long initdb and the SQL may take.
const MAKE_LIMIT: Duration = Duration::from_mins(3);
/// How long the engine may take to turn the container into an image.
const COMMIT_LIMIT: Duration = Duration::from_mins(5);
/// How long another replab may take that makes the same template; then it is taken for dead.
const OTHERS_LIMIT: Duration = Duration::from_secs(90);

const UID: &str = "replab.uid";
const GID: &str = "replab.gid";
const VERSION: &str = "replab.version";
/// Why containers can't be frozen on this engine; blank where they can.
const NO_FREEZER: &str = "replab.no-freezer";

/// A template that is on the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    /// The image's exact id.
    pub(super) image: String,
    /// The server's account in it.
    pub(super) account: Account,
    /// PostgreSQL's version, "17.11".
    pub(super) version: String,
    /// Why containers can't be frozen on this engine, if so; tried when the template was made.
    pub(super) no_freezer: Option<String>,
}

/// What making a template needs.
#[derive(Debug)]
pub(super) struct Maker<'a> {
    pub(super) engine: &'a Engine,
    pub(super) base: &'a Image,
    pub(super) owner: &'a Owner,
    pub(super) template: &'a Template,
    pub(super) progress: &'a Progress,
}

impl Maker<'_> {
    /// Finds the template, or makes it. Whoever creates the container of that name makes it; others wait.
    pub(super) async fn ensure(&self) -> Result<Prepared> {
        let hash = hash(self.base, self.template);
        loop {
            if let Some(prepared) = find(&self.engine.docker, &hash).await? {
                return Ok(prepared);
            }
            if let Some(id) = self.begin(&hash).await? {
                let made = self.make(&id, &hash).await;
                let removed = wait::remove(&self.engine.docker, &id, "remove the template's container").await;
                return made.and_then(|prepared| removed.map(|()| prepared));
            }
        }
    }

    /// Creates the container that becomes the template; None when another replab was at it, and is done now.
    async fn begin(&self, hash: &str) -> Result<Option<String>> {
        let docker = &self.engine.docker;
        let name = format!("replab-template-{hash}");
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        match docker.create_container(Some(options), self.container()?).await {
            Ok(made) => Ok(Some(made.id)),
            Err(err) if failure::status(&err) == Some(409) => {
                self.say("another replab makes it; waiting");
                if !wait::until_removed(docker, &name, OTHERS_LIMIT).await {
                    self.remove_stale(&name).await?;
                }
                Ok(None)
            }
            Err(err) => Err(failure::engine("make the template", &err)),
        }
    }

    /// Removes the container of a replab that died over it, after a look at its label.
    async fn remove_stale(&self, name: &str) -> Result<()> {
        let docker = &self.engine.docker;
        let what = format!("remove {name}");
        let found = match docker.inspect_container(name, None).await {
            Err(err) if failure::is_missing(&err) => return Ok(()),
            found => found.map_err(|err| failure::engine(&what, &err))?,
        };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        match found.id.filter(|_| filled(&labels, labels::MAKER).is_some()) {
            Some(id) => wait::remove(docker, &id, &what).await,
            None => Err(plain(what, "another container has this name, and it isn't replab's")),
        }
    }

    fn container(&self) -> Result<ContainerCreateBody> {
        Ok(ContainerCreateBody {
            image: Some(self.base.id.clone()),
            user: Some(confine::USER.to_owned()),
            entrypoint: Some(entrypoint()),
            cmd: Some(Vec::new()),
            labels: Some(confine::maker(self.owner, "make the template")?),
            host_config: Some(HostConfig { tmpfs: Some(instead_of_volumes(&self.base.volumes)), ..confine::alone() }),
            ..ContainerCreateBody::default()
        })
    }

    async fn make(&self, id: &str, hash: &str) -> Result<Prepared> {
        let what = "make the template";
        let docker = &self.engine.docker;
        let passwd = archive::read(docker, id, "/etc/passwd", what).await?.unwrap_or_default();
        let account = account(&passwd)
            .ok_or_else(|| plain(what, format!("image {} has no user postgres in /etc/passwd", self.base.name)))?;
        self.pack(account)?.upload(docker, id, what).await?;
        self.say("initdb, settings and SQL");
        docker.start_container(id, None).await.map_err(|err| failure::engine(what, &err))?;
        let no_freezer = freezer::refusal(docker, id).await?;
        let code = wait::until_stopped(docker, id, MAKE_LIMIT, what).await?;
        let told = archive::read(docker, id, job::OUTPUT, what).await?.unwrap_or_default();
        if code != 0 {
            return Err(plain(what, format!("exit code {code}: {}", last_lines(&told))));
        }
        let version = told.lines().rev().find_map(version_number).unwrap_or_default().to_owned();
        self.say("saving it as an image");
        let prepared = Prepared { image: String::new(), account, version, no_freezer };
        self.commit(id, hash, &prepared).await
    }

    fn pack(&self, account: Account) -> Result<Pack> {
        let mut pack = Pack::new(account);
        pack.skeleton()?;
        pack.dir("/replab/make", 0o700)?;
        pack.file("/replab/make/conf", 0o600, &format!("\n{}\n", self.template.conf))?;
        pack.file("/replab/make/hba", 0o600, &format!("{}\n", self.template.hba))?;
        pack.file("/replab/make/sql", 0o600, &self.template.sql)?;
        pack.file(job::FILE, 0o600, &script(self.template))?;
        Ok(pack)
    }

    /// Saves the container as an image, and finds it as the next lab will.
    async fn commit(&self, id: &str, hash: &str, made: &Prepared) -> Result<Prepared> {
        let told = [
            (labels::TEMPLATE, hash.to_owned()),
            (labels::MAKER, String::new()),
            (UID, made.account.uid.to_string()),
            (GID, made.account.gid.to_string()),
            (VERSION, made.version.clone()),
            (NO_FREEZER, made.no_freezer.clone().unwrap_or_default().replace(['"', '\\', '$', '\n'], " ")),
        ];
        let config = ContainerConfig {
            user: Some(confine::USER.to_owned()),
            entrypoint: Some(entrypoint()),
            labels: Some(told.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()),
            ..ContainerConfig::default()
        };
        // Twice, because Podman before 5 takes no labels from a configuration: as it stands in a recipe, too.
        let changes: Vec<String> = told.iter().map(|(key, value)| format!("LABEL {key}=\"{value}\"")).collect();
        let options = CommitContainerOptionsBuilder::new()
            .container(id)
            .repo("replab/template")
            .tag(hash)
            .pause(false)
            .changes(&changes.join("\n"))
            .build();
        self.engine
            .patient(COMMIT_LIMIT)
            .commit_container(options, config)
            .await
            .map_err(|err| failure::engine("save the template", &err))?;
        let found = find(&self.engine.docker, hash).await?;
        found.ok_or_else(|| plain("save the template", "it was saved, but isn't here"))
    }

    fn say(&self, phase: &str) {
        // Whoever started this may have stopped listening; the work goes on.
        let _ = self.progress.send(format!("making the template: {phase}"));
    }
}

/// How containers with the node script begin.
pub(super) fn entrypoint() -> Vec<String> {
    ["/bin/sh", "/replab/node.sh"].map(str::to_owned).to_vec()
}

/// Small empty mounts over the folders that the image declares as volumes: nothing uses them here, and without a mount
/// each container would get a volume of its own.
pub(super) fn instead_of_volumes(volumes: &[String]) -> HashMap<String, String> {
    volumes.iter().map(|folder| (folder.clone(), "size=64k".to_owned())).collect()
}

async fn find(docker: &Docker, hash: &str) -> Result<Option<Prepared>> {
    let found = match docker.inspect_image(&tag(hash)).await {
        Err(err) if failure::is_missing(&err) => return Ok(None),
        found => found.map_err(|err| failure::engine("look for the template", &err))?,
    };
    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
    let number = |key| filled(&labels, key).and_then(|value| value.parse().ok());
    let known = filled(&labels, labels::TEMPLATE) == Some(hash);
    let (Some(image), Some(uid), Some(gid)) = (found.id.filter(|_| known), number(UID), number(GID)) else {
        return Err(plain("look for the template", format!("image {} isn't replab's", tag(hash))));
    };
    let version = filled(&labels, VERSION).unwrap_or_default().to_owned();
    let no_freezer = filled(&labels, NO_FREEZER).map(str::to_owned);
    Ok(Some(Prepared { image, account: Account { uid, gid }, version, no_freezer }))
}

fn tag(hash: &str) -> String {
    format!("replab/template:{hash}")
}

/// The job that makes the cluster. initdb sets trust, and the template's own `pg_hba.conf` replaces it before any server
/// listens on a network.
fn script(template: &Template) -> String {
    let mut call = "initdb -D /replab/data -U postgres -k -E UTF8 --locale=C --no-sync -A trust".to_owned();
    for arg in &template.initdb {
        call.push(' ');
        call.push_str(&job::quoted(arg));
    }
    format!("set -eu\n{call} </dev/null\n{MAKE}")
}

fn last_lines(told: &str) -> String {
    let lines: Vec<&str> = told.lines().filter(|line| !line.trim().is_empty()).collect();
    safe_lines(&lines[lines.len().saturating_sub(4)..].join("\n"))
}

fn account(passwd: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some(Account { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

/// Names the template: another base image, other settings or another recipe make another one. FNV-1a, each part with its
/// length before it. It guards against accidents, not against people: whoever can make images owns the engine.
fn hash(base: &Image, template: &Template) -> String {
    let mut parts = vec![RECIPE.to_string(), base.id.clone(), MAKE.to_owned(), NODE.to_owned()];
    parts.extend([template.conf.clone(), template.hba.clone(), template.sql.clone()]);
    parts.extend(template.initdb.iter().cloned());
    let mut name = String::new();
    for seed in [0xcbf2_9ce4_8422_2325_u64, 0x9e37_79b9_7f4a_7c15] {
        let mut sum = seed;
        for part in &parts {
            for byte in (part.len() as u64).to_le_bytes().iter().chain(part.as_bytes()) {
                sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        // Writing to a String can't fail.
        let _ = write!(name, "{sum:016x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str) -> Image {
        Image {
            name: "pg".into(),
            id: id.into(),
            major: 18,
            warning: None,
            volumes: vec!["/var/lib/postgresql".into()],
        }
    }

    fn template(initdb: &[&str], conf: &str, hba: &str) -> Template {
        let initdb = initdb.iter().map(|arg| (*arg).to_owned()).collect();
        Template { initdb, conf: conf.into(), hba: hba.into(), sql: String::new() }
    }

    #[test]
    fn every_part_changes_the_name() {
        let all = [
            hash(&image("a"), &template(&["--wal-segsize=1"], "x", "y")),
            hash(&image("b"), &template(&["--wal-segsize=1"], "x", "y")),
            hash(&image("a"), &template(&[], "x", "y")),
            hash(&image("a"), &template(&["--wal-segsize=1"], "xy", "")),
            hash(&image("a"), &template(&["--wal-segsize=1"], "", "xy")),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(one.len(), 32);
            assert!(!all[at + 1..].contains(one), "{all:?}");
        }
        assert_eq!(all[0], hash(&image("a"), &template(&["--wal-segsize=1"], "x", "y")));
    }

    #[test]
    fn the_account_is_read() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgres:x:70:71:PostgreSQL:/var/lib/postgresql:/bin/sh\n";
        assert_eq!(account(passwd), Some(Account { uid: 70, gid: 71 }));
        assert_eq!(account("root:x:0:0::/:/bin/sh"), None);
    }

    #[test]
    fn arguments_can_do_no_harm() {
        assert!(script(&template(&["a b'; rm"], "", "")).contains(r"'a b'\''; rm'"));
    }
}
