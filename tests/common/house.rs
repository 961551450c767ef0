//! A home of its own for the program under test, and what is left of a lab afterwards: found by labels, names and /proc,
//! without the program's help.

#![allow(dead_code, reason = "each test program uses another part")]

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use replab::runtime::docker::{self, Engine};
use replab::runtime::process::clean;
use replab::runtime::{Dirs, owner};
use tempfile::TempDir;

/// Where a test's nodes live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Processes of this machine.
    Process,
    /// Containers from `replab/postgres:MAJOR`.
    Docker(u32),
}

impl Ground {
    /// Whether it is there; says so when the test is skipped, and fails where `CI` is true.
    pub fn is_there(self) -> bool {
        match self {
            Self::Process => super::pgserver::programs_or_skip().is_some(),
            Self::Docker(major) => wait_for(super::images::ground_or_skip(major)).is_some(),
        }
    }

    /// The options that choose it.
    pub fn args(self) -> Vec<String> {
        let words = match self {
            Self::Process => "--runtime process".to_owned(),
            Self::Docker(major) => format!("--runtime docker --image replab/postgres:{major}"),
        };
        words.split(' ').map(str::to_owned).collect()
    }
}

/// Runs a future to its end, in a test that isn't async.
pub fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// Folders for one test. The cache (templates) is shared by all tests of this build; what labs keep is not.
pub struct House {
    folder: TempDir,
    pub ground: Ground,
    /// Labs that were seen, so that a failed test can take them away.
    labs: Mutex<BTreeSet<String>>,
}

impl House {
    /// Opens one, if the ground is there.
    pub fn on(ground: Ground) -> Option<Self> {
        ground.is_there().then(|| Self::prepared(ground))
    }

    /// Opens one where the ground is known to be there.
    pub fn prepared(ground: Ground) -> Self {
        let folder = tempfile::Builder::new().prefix("replab-e2e-").tempdir().unwrap();
        // Root steps down: the servers' user must get through.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        Self { folder, ground, labs: Mutex::default() }
    }

    /// A lab of this house, to be removed if the test fails.
    pub fn remember(&self, lab: &str) {
        self.labs.lock().unwrap().insert(lab.to_owned());
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the program's own cache is.
    pub fn cache() -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-cache")
    }

    /// The environment of the program.
    pub fn env(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("XDG_STATE_HOME", self.path().join("state")),
            ("XDG_CACHE_HOME", Self::cache()),
            ("TERM", "xterm-256color".into()),
            ("LC_ALL", "C.UTF-8".into()),
            ("NO_COLOR", "".into()),
        ]
    }

    /// The folders as the library wants them.
    pub fn dirs(&self) -> Dirs {
        Dirs { cache: Self::cache().join("replab"), state: self.path().join("state/replab") }
    }

    /// The program with these words.
    pub fn replab(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_replab"));
        command.envs(self.env()).args(words).args(self.ground.args());
        command
    }

    /// The ids of labs that a process owns.
    pub fn labs_of(&self, pid: u32) -> BTreeSet<String> {
        let mut labs = BTreeSet::new();
        for folder in self.lab_folders().iter().flat_map(|f| fs::read_dir(f).into_iter().flatten().flatten()) {
            let text = fs::read_to_string(folder.path().join("lab.json")).unwrap_or_default();
            if text.split([',', '}']).any(|part| part.replace(' ', "").trim().ends_with(&format!("\"pid\":{pid}"))) {
                labs.insert(folder.file_name().to_string_lossy().into_owned());
            }
        }
        labs.extend(on_engine(&format!("replab.owner={pid}")).into_iter().filter_map(|(_, lab)| lab));
        self.labs.lock().unwrap().extend(labs.clone());
        labs
    }

    fn lab_folders(&self) -> [PathBuf; 2] {
        let uid = rustix::process::geteuid().as_raw();
        [self.path().join("state/replab/labs"), PathBuf::from(format!("/var/tmp/replab-{uid}/state/labs"))]
    }

    /// Something of somebody else, with a name like those of a lab: a container without labels, or a folder beside it.
    pub fn stranger(&self, lab: &str) -> Stranger {
        if self.ground == Ground::Process {
            let folder = self.lab_folders()[0].join("stranger");
            fs::create_dir(&folder).unwrap();
            return Stranger::Folder(folder);
        }
        let name = format!("replab-{lab}-stranger");
        let asked = std::thread::spawn(move || wait_for(create_stranger(&name)));
        Stranger::Container(asked.join().expect("a stranger"))
    }

    /// Whether no lab has a folder in this house.
    pub fn lab_folders_are_empty(&self) -> bool {
        fs::read_dir(&self.lab_folders()[0]).map_or(true, |mut inside| inside.next().is_none())
    }

    /// Everything there still is of a lab: containers, networks, volumes, folders, processes.
    pub fn remains(&self, lab: &str) -> Vec<String> {
        let mut found: Vec<String> =
            on_engine(&format!("replab.lab={lab}")).into_iter().map(|(what, _)| what).collect();
        for folder in self.lab_folders() {
            let inside = fs::read_dir(folder).into_iter().flatten().flatten();
            found.extend(inside.filter(|e| e.file_name().to_string_lossy().contains(lab)).map(|e| format!("{e:?}")));
        }
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let cwd = fs::read_link(process.path().join("cwd")).unwrap_or_default();
            let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if format!("{} {}", cwd.display(), String::from_utf8_lossy(&words)).contains(lab) {
                found.push(format!("process {} in {}", process.path().display(), cwd.display()));
            }
        }
        found
    }

    /// Fails when something is left of a lab.
    #[track_caller]
    pub fn assert_gone(&self, labs: &BTreeSet<String>) {
        for lab in labs {
            let remains = self.remains(lab);
            assert!(remains.is_empty(), "left of lab {lab}: {remains:#?}");
        }
    }
}

/// See [`House::stranger`].
#[derive(Debug)]
pub enum Stranger {
    Folder(PathBuf),
    Container(String),
}

impl Stranger {
    pub fn is_there(&self) -> bool {
        match self {
            Self::Folder(folder) => folder.is_dir(),
            Self::Container(id) => wait_for(async { bare().await.unwrap().inspect_container(id, None).await.is_ok() }),
        }
    }

    pub fn remove(self) {
        match self {
            Self::Folder(folder) => fs::remove_dir(folder).unwrap(),
            Self::Container(id) => wait_for(async {
                let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                bare().await.unwrap().remove_container(&id, Some(options)).await.unwrap();
            }),
        }
    }
}

async fn create_stranger(name: &str) -> String {
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    let body = ContainerCreateBody { image: Some("replab/postgres:18".to_owned()), ..ContainerCreateBody::default() };
    bare().await.unwrap().create_container(Some(options), body).await.unwrap().id
}

/// The engine, not through the lab's eyes; None where there is none.
pub async fn bare() -> Option<bollard::Docker> {
    let engine = Engine::connect().await.ok()?;
    let socket = engine.socket().to_string_lossy().into_owned();
    let bare = bollard::Docker::connect_with_unix(&socket, 60, bollard::API_DEFAULT_VERSION).unwrap();
    Some(bare.negotiate_version().await.unwrap())
}

/// What a failed test left goes, and nothing else.
impl Drop for House {
    fn drop(&mut self) {
        for left in clean::leftovers(&self.dirs()).iter().filter(|l| Path::new(&l.id).starts_with(self.path())) {
            drop(clean::remove(left));
        }
        let labs = std::mem::take(&mut *self.labs.lock().unwrap_or_else(PoisonError::into_inner));
        if self.ground != Ground::Process && std::thread::panicking() {
            drop(std::thread::spawn(move || wait_for(remove_from_engine(labs))).join());
        }
    }
}

async fn remove_from_engine(labs: BTreeSet<String>) {
    let Ok(engine) = Engine::connect().await else { return };
    for left in docker::leftovers(&engine, owner::alive).await.unwrap_or_default() {
        if left.owner.as_ref().is_some_and(|o| labs.contains(&o.lab)) {
            drop(docker::remove(&engine, &left).await);
        }
    }
}

/// Containers, networks and volumes with this label, each with its lab; none where there is no engine.
fn on_engine(label: &str) -> Vec<(String, Option<String>)> {
    let label = label.to_owned();
    let looked = std::thread::spawn(move || wait_for(async move { look_at_engine(&label).await }));
    looked.join().expect("the engine was asked")
}

async fn look_at_engine(label: &str) -> Vec<(String, Option<String>)> {
    let Some(bare) = bare().await else { return Vec::new() };
    let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
    let lab = |labels: Option<HashMap<String, String>>| labels.unwrap_or_default().remove("replab.lab");
    let containers = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let networks = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let volumes = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let mut found = Vec::new();
    for one in bare.list_containers(Some(containers)).await.unwrap() {
        found.push((format!("container {:?}", one.names), lab(one.labels)));
    }
    for one in bare.list_networks(Some(networks)).await.unwrap() {
        found.push((format!("network {:?}", one.name), lab(one.labels)));
    }
    for one in bare.list_volumes(Some(volumes)).await.unwrap().volumes.unwrap_or_default() {
        found.push((format!("volume {}", one.name), Some(one.labels).and_then(|l| lab(Some(l)))));
    }
    found
}
