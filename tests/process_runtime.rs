//! The process runtime against the real `PostgreSQL` of this machine. Where there is none, the tests say that they
//! skipped, unless `CI=true`: then they fail.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use replab::model::NodeName;
use replab::model::cluster::NodeState;
use replab::runtime::process::{ProcessRuntime, Programs, clean};
use replab::runtime::{
    Dirs, Job, Leftover, NodeFile, Origin, Owner, Place, Progress, Runtime, RuntimeEvent, Template, owner,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);

/// A lab in folders of its own; the template is shared by all tests.
struct Lab {
    runtime: ProcessRuntime,
    dirs: Dirs,
    _folder: TempDir,
}

impl Lab {
    fn id(&self) -> String {
        self.runtime.folder().to_string_lossy().into_owned()
    }

    async fn create(&self, node: &NodeName) {
        self.runtime.create(node, Origin::Template, &[]).await.expect("created");
    }

    async fn address(&self, node: &NodeName) -> SocketAddr {
        self.runtime.control_address(node).await.expect("an address")
    }

    /// Starts a node and waits until it takes a session.
    async fn start(&self, node: &NodeName) -> Client {
        self.runtime.start(node).await.expect("started");
        session(self.address(node).await).await
    }

    fn data(&self, node: &NodeName) -> PathBuf {
        let version = self.runtime.path(node, &Place::Data("PG_VERSION".to_owned()));
        Path::new(&version).parent().expect("a folder").to_owned()
    }

    /// `destroy_all` leaves no process and no folder.
    async fn all_gone(self) {
        let nodes = fs::read_dir(self.runtime.folder().join("nodes")).expect("nodes");
        let data: Vec<PathBuf> = nodes.map(|node| node.expect("one").path().join("data")).collect();
        self.runtime.destroy_all().await.expect("all destroyed");
        self.runtime.destroy_all().await.expect("again is fine");
        assert!(!self.runtime.folder().exists());
        for data in data {
            let deleted = PathBuf::from(format!("{} (deleted)", data.display()));
            assert!(pids(&data).is_empty() && pids(&deleted).is_empty(), "{}", data.display());
        }
    }
}

fn programs() -> Option<Programs> {
    match Programs::find(None, None) {
        Ok(programs) => Some(programs),
        Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("no PostgreSQL to test with: {error}"),
        Err(error) => {
            eprintln!("SKIPPED, nothing was tested: {error}");
            None
        }
    }
}

fn template() -> Template {
    let conf = "log_line_prefix = '%m [%p] '\nmin_wal_size = 2MB\nmax_wal_size = 32MB\nshared_buffers = 16MB\n";
    Template {
        initdb: vec!["--wal-segsize=1".to_owned()],
        conf: conf.to_owned(),
        hba: "local all all trust\nhost all,replication all 127.0.0.1/32 trust\n".to_owned(),
        sql: "CREATE TABLE probe (id bigint PRIMARY KEY);\nCREATE DATABASE other;\n".to_owned(),
    }
}

fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("replab-test-").tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("open for the servers' user");
    folder
}

fn progress() -> (Progress, mpsc::UnboundedReceiver<String>) {
    mpsc::unbounded_channel()
}

async fn lab_owned_by(owner: Owner) -> Option<Lab> {
    Some(lab_of(owner, programs()?).await)
}

async fn lab_of(owner: Owner, programs: Programs) -> Lab {
    let folder = folder();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("replab-templates");
    let dirs = Dirs { cache, state: folder.path().join("state") };
    let runtime = ProcessRuntime::new(owner, &dirs, programs).expect("a runtime");
    runtime.prepare(&template(), &progress().0).await.expect("a template");
    Lab { runtime, dirs, _folder: folder }
}

async fn lab() -> Option<Lab> {
    lab_owned_by(owner::current(owner::new_lab_id())).await
}

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

/// A session on a node as soon as it accepts one.
async fn session(at: SocketAddr) -> Client {
    let config = format!("host=127.0.0.1 port={} user=postgres dbname=postgres connect_timeout=2", at.port());
    let deadline = Instant::now() + DEADLINE;
    loop {
        match tokio_postgres::connect(&config, NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => assert!(Instant::now() < deadline, "no session: {error:?}"),
        }
        sleep(POLL).await;
    }
}

async fn text(client: &Client, sql: &str) -> String {
    let row = timeout(DEADLINE, client.query_one(sql, &[])).await.expect("in time").expect("a row");
    row.get(0)
}

async fn next(events: &mut mpsc::Receiver<RuntimeEvent>) -> RuntimeEvent {
    timeout(DEADLINE, events.recv()).await.expect("an event in time").expect("the stream is open")
}

async fn next_state(events: &mut mpsc::Receiver<RuntimeEvent>) -> NodeState {
    loop {
        if let RuntimeEvent::State(node, state) = next(events).await {
            assert_eq!(node, name("n1"));
            return state;
        }
    }
}

fn job(program: &str, args: &[&str], limit: Duration) -> Job {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Job { program: program.to_owned(), args, limit, ..Job::default() }
}

/// Process ids that work in this directory (Linux).
fn pids(data: &Path) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)).collect()
}

fn listed(dirs: &Dirs, id: &str) -> Leftover {
    let found: Vec<_> = clean::leftovers(dirs).into_iter().filter(|one| one.id == id).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[tokio::test]
async fn the_template_is_made_once() {
    let Some(programs) = programs() else { return };
    let folder = folder();
    let dirs = Dirs { cache: folder.path().join("cache"), state: folder.path().join("state") };
    let first = ProcessRuntime::new(owner::current("00000001"), &dirs, programs.clone()).expect("a runtime");
    let second = ProcessRuntime::new(owner::current("00000002"), &dirs, programs).expect("a runtime");
    let (tell, mut told) = progress();
    let template = template();
    let began = Instant::now();
    let made = tokio::join!(first.prepare(&template, &tell), second.prepare(&template, &tell));
    println!("two made the same template at once in {:?}", began.elapsed());
    assert!(made.0.is_ok() && made.1.is_ok(), "two at once: {made:?}");
    assert!(told.recv().await.is_some_and(|step| step.contains("initdb")));
    while told.try_recv().is_ok() {}
    let began = Instant::now();
    first.prepare(&template, &tell).await.expect("cached");
    println!("a cached template is found in {:?}", began.elapsed());
    assert!(told.try_recv().is_err(), "nothing is made again");
    let of_cache = |one: &Leftover| one.id.starts_with(&*dirs.cache.to_string_lossy());
    let in_cache: Vec<Leftover> = clean::leftovers(&dirs).into_iter().filter(of_cache).collect();
    assert!(in_cache.len() == 1 && in_cache[0].kind == "template", "{in_cache:?}");
    clean::remove(&in_cache[0]).expect("removed");
    second.prepare(&template, &tell).await.expect("made again");
    assert!(told.try_recv().is_ok());
    for runtime in [first, second] {
        runtime.destroy_all().await.expect("removed");
    }
}

#[tokio::test]
async fn a_template_that_cannot_be_made_leaves_nothing() {
    let Some(lab) = lab().await else { return };
    let broken = Template { sql: "SELECT 1/0;".to_owned(), ..template() };
    let error = lab.runtime.prepare(&broken, &progress().0).await.expect_err("no template");
    assert!(error.why.contains("division by zero"), "{error}");
    let unfinished =
        |one: &Leftover| one.name.contains("unfinished") && lab.id().ends_with(&one.owner.as_ref().expect("one").lab);
    let left: Vec<_> = clean::leftovers(&lab.dirs).into_iter().filter(unfinished).collect();
    assert!(left.is_empty(), "{left:?}");
    lab.all_gone().await;
}

#[tokio::test]
async fn clones_start_together_and_are_copies_of_one_system() {
    let Some(lab) = lab().await else { return };
    let [one, two] = [name("n1"), name("n2")];
    let began = Instant::now();
    tokio::join!(lab.create(&one), lab.create(&two));
    println!("two copies at once: {:?}", began.elapsed());
    assert!(lab.runtime.create(&one, Origin::Empty, &[]).await.is_err(), "the name is taken");
    let began = Instant::now();
    let (first, second) = tokio::join!(lab.start(&one), lab.start(&two));
    println!("two starts at once, until both take a session: {:?}", began.elapsed());
    let sql = "SELECT system_identifier::text FROM pg_control_system()";
    assert_eq!(text(&first, sql).await, text(&second, sql).await);
    assert_eq!(text(&first, "SHOW data_checksums").await, "on");
    assert_eq!(text(&first, "SELECT count(*)::text FROM probe").await, "0");
    lab.runtime.start(&one).await.expect("starting what runs is fine");
    lab.runtime.destroy(&one).await.expect("destroyed");
    lab.runtime.destroy(&one).await.expect("destroyed twice");
    assert!(lab.runtime.start(&one).await.is_err());
    lab.create(&one).await;
    lab.all_gone().await;
}

#[tokio::test]
async fn a_frozen_node_takes_no_writes_until_it_is_thawed() {
    let Some(lab) = lab().await else { return };
    let node = name("n1");
    let mut events = lab.runtime.events().expect("the stream");
    assert!(lab.runtime.events().is_none(), "taken once");
    lab.create(&node).await;
    assert!(lab.runtime.freeze(&node).await.is_err(), "it doesn't run");
    let client = lab.start(&node).await;
    assert_eq!(next_state(&mut events).await, NodeState::Running);
    client.execute("INSERT INTO probe VALUES (1)", &[]).await.expect("written");
    let began = Instant::now();
    lab.runtime.freeze(&node).await.expect("frozen");
    println!("freeze: {:?}", began.elapsed());
    assert_eq!(next_state(&mut events).await, NodeState::Frozen);
    let write = client.execute("INSERT INTO probe VALUES (2)", &[]);
    tokio::pin!(write);
    assert!(timeout(Duration::from_millis(400), &mut write).await.is_err(), "the session is stopped");
    let stop = lab.runtime.stop(&node, DEADLINE).await;
    assert!(stop.is_err_and(|error| error.hint.is_some()), "a frozen one can't stop");
    lab.runtime.thaw(&node).await.expect("thawed");
    assert_eq!(next_state(&mut events).await, NodeState::Running);
    assert_eq!(timeout(DEADLINE, write).await.expect("in time").expect("written"), 1);
    lab.all_gone().await;
}

#[tokio::test]
async fn a_killed_node_is_all_gone_and_starts_again() {
    let Some(lab) = lab().await else { return };
    let node = name("n1");
    let mut events = lab.runtime.events().expect("the stream");
    lab.create(&node).await;
    lab.runtime.kill(&node).await.expect("killing what doesn't run is fine");
    let (data, address) = (lab.data(&node), lab.address(&node).await);
    for frozen in [false, true] {
        let client = lab.start(&node).await;
        assert_eq!(next_state(&mut events).await, NodeState::Running);
        client.execute("INSERT INTO probe SELECT count(*) FROM probe", &[]).await.expect("written");
        assert!(pids(&data).len() > 4);
        if frozen {
            lab.runtime.freeze(&node).await.expect("frozen");
            assert_eq!(next_state(&mut events).await, NodeState::Frozen);
        }
        let began = Instant::now();
        lab.runtime.kill(&node).await.expect("killed");
        println!("kill (frozen: {frozen}): {:?}", began.elapsed());
        assert!(pids(&data).is_empty());
        assert_eq!(next_state(&mut events).await, NodeState::Exited(Some(137)));
        assert!(data.join("postmaster.pid").exists(), "it was no clean stop");
        assert_eq!(lab.address(&node).await, address, "the port stays");
    }
    let client = lab.start(&node).await;
    assert_eq!(text(&client, "SELECT count(*)::text FROM probe").await, "2", "both commits came back");
    lab.all_gone().await;
}

/// Another program may take the port of a node that is down: the node comes back on another one, and that is told.
#[tokio::test]
async fn a_port_that_was_taken_meanwhile_gives_way_to_another_and_is_told() {
    let Some(lab) = lab().await else { return };
    let node = name("n1");
    let mut events = lab.runtime.events().expect("the stream");
    lab.create(&node).await;
    lab.start(&node).await;
    lab.runtime.kill(&node).await.expect("killed");
    let old = lab.address(&node).await;
    let squatter = std::net::TcpListener::bind(old).expect("the port of a dead node is free");
    let client = lab.start(&node).await;
    assert_eq!(text(&client, "SELECT 'here'").await, "here");
    let new = lab.address(&node).await;
    assert_ne!(new, old);
    let told = loop {
        if let RuntimeEvent::Moved(node, from, to) = next(&mut events).await {
            break (node, from, to);
        }
    };
    assert_eq!(told, (node.clone(), old.port(), new.port()));
    // It stays there, also when the old one is free again.
    drop(squatter);
    lab.runtime.kill(&node).await.expect("killed");
    lab.start(&node).await;
    assert_eq!(lab.address(&node).await, new);
    lab.all_gone().await;
}

#[tokio::test]
async fn an_end_that_nobody_asked_for_is_noticed_and_explained() {
    let Some(lab) = lab().await else { return };
    let node = name("n1");
    let mut events = lab.runtime.events().expect("the stream");
    lab.create(&node).await;
    let wrong = NodeFile { place: Place::Data("postgresql.auto.conf".to_owned()), text: "no_such = 1\n".to_owned() };
    lab.runtime.put(&node, &[wrong]).await.expect("written");
    lab.runtime.start(&node).await.expect("the process is there");
    let (mut said, mut states) = (String::new(), Vec::new());
    while states.len() < 2 || !said.contains("no_such") {
        match next(&mut events).await {
            RuntimeEvent::Log(_, lines) => said.extend(lines.into_iter().map(|line| line.severity + &line.text)),
            RuntimeEvent::State(_, state) => states.push(state),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(states, [NodeState::Running, NodeState::Exited(Some(1))]);
    lab.all_gone().await;
}

/// Between a look at the port and the server's own binding another program may take it. Here a `postgres` sees to that, once.
#[tokio::test]
async fn a_port_that_is_taken_while_the_server_starts_gives_way_to_another() {
    let Some(real) = programs() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open");
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).expect("made");
    for program in fs::read_dir(real.folder()).expect("programs").flatten() {
        if program.file_name() != "postgres" {
            std::os::unix::fs::symlink(program.path(), bin.join(program.file_name())).expect("linked");
        }
    }
    let [real, told, taken] = [real.path("postgres"), folder.path().join("told"), folder.path().join("taken")];
    let [real, told, taken] = [real, told, taken].map(|path| path.display().to_string());
    let script = format!(
        "#!/bin/sh\nif [ -e {told} ]; then\n  echo \"$@\" >{told}.args\n  mv {told} {told}.used\n  \
         while [ ! -e {taken} ]; do sleep 0.01; done\nfi\nexec {real} \"$@\"\n"
    );
    fs::write(bin.join("postgres"), script).expect("written");
    fs::set_permissions(bin.join("postgres"), fs::Permissions::from_mode(0o755)).expect("a program");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("open");
    // A child that another test made while the script was being written holds it open until it becomes another program.
    let busy = |e: std::io::Error| e.kind() == std::io::ErrorKind::ExecutableFileBusy;
    while std::process::Command::new(bin.join("postgres")).arg("--version").output().is_err_and(busy) {}
    let lab = lab_of(owner::current(owner::new_lab_id()), Programs::find(Some(&bin), None).expect("programs")).await;
    let node = name("n1");
    let mut events = lab.runtime.events().expect("the stream");
    lab.create(&node).await;
    let first = lab.address(&node).await;
    fs::write(&told, "").expect("told");
    let thief = async {
        while !Path::new(&format!("{told}.used")).exists() {
            sleep(POLL).await;
        }
        let listener = std::net::TcpListener::bind(first).expect("free till now");
        fs::write(&taken, "").expect("taken");
        listener
    };
    let (started, _listener) = tokio::join!(lab.runtime.start(&node), thief);
    started.expect("started");
    let second = lab.address(&node).await;
    assert_ne!(first, second);
    drop(session(second).await);
    let moved = RuntimeEvent::Moved(node.clone(), first.port(), second.port());
    while next(&mut events).await != moved {}
    lab.all_gone().await;
}

#[tokio::test]
async fn a_fast_stop_is_clean_and_its_log_is_told() {
    let Some(lab) = lab().await else { return };
    let node = name("n1");
    let mut events = lab.runtime.events().expect("the stream");
    lab.create(&node).await;
    let control = job("pg_controldata", &["-D", "{data}"], DEADLINE);
    let _client = lab.start(&node).await;
    assert!(lab.runtime.run(&node, &control).await.is_err(), "not while it runs");
    let began = Instant::now();
    lab.runtime.stop(&node, DEADLINE).await.expect("stopped");
    println!("fast stop: {:?}", began.elapsed());
    lab.runtime.stop(&node, DEADLINE).await.expect("stopped twice");
    let (mut logged, mut code) = (Vec::new(), None);
    let is_last = |line: &replab::model::cluster::LogLine| line.text.contains("database system is shut down");
    while code.is_none() || !logged.iter().any(is_last) {
        match next(&mut events).await {
            RuntimeEvent::Log(_, lines) => logged.extend(lines),
            RuntimeEvent::State(_, NodeState::Exited(exit)) => code = Some(exit),
            _ => {}
        }
    }
    assert_eq!(code, Some(Some(0)));
    let ready = logged.iter().find(|line| line.text.contains("ready to accept connections"));
    assert_eq!(ready.map(|line| line.severity.as_str()), Some("LOG"), "{logged:?}");
    let output = lab.runtime.run(&node, &control).await.expect("ran");
    assert!(output.code == Some(0) && output.output.contains("shut down"), "{}", output.output);
    let failing = lab.runtime.run(&node, &job("pg_controldata", &["-D", "{private}"], DEADLINE)).await.expect("ran");
    assert!(failing.code == Some(1) && !failing.output.is_empty(), "{failing:?}");
    assert!(lab.runtime.run(&node, &job("/bin/sh", &[], DEADLINE)).await.is_err(), "only programs of PostgreSQL");
    lab.all_gone().await;
}

#[tokio::test]
async fn files_are_put_and_read_where_the_server_finds_them() {
    let Some(lab) = lab().await else { return };
    let node = name("n1");
    let private = Place::Private("passfile".to_owned());
    let file = NodeFile { place: private.clone(), text: "*:*:*:*:x\n".to_owned() };
    lab.runtime.create(&node, Origin::Template, &[file]).await.expect("created");
    assert_eq!(lab.runtime.read(&node, &private).await.expect("read").as_deref(), Some("*:*:*:*:x\n"));
    let mode = fs::metadata(lab.runtime.path(&node, &private)).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(lab.runtime.read(&node, &Place::Data("standby.signal".to_owned())).await.expect("read"), None);
    let outside = NodeFile { place: Place::Data("../../../lab.json".to_owned()), text: String::new() };
    assert!(lab.runtime.put(&node, &[outside]).await.is_err());
    let link = Place::Data("link".to_owned());
    std::os::unix::fs::symlink("/etc/passwd", lab.runtime.path(&node, &link)).expect("linked");
    assert!(lab.runtime.read(&node, &link).await.is_err(), "links are not followed");
    lab.all_gone().await;
}

#[tokio::test]
async fn a_base_backup_fills_an_empty_node() {
    let Some(lab) = lab().await else { return };
    let [source, copy] = [name("n1"), name("n2")];
    lab.create(&source).await;
    drop(lab.start(&source).await);
    lab.runtime.create(&copy, Origin::Empty, &[]).await.expect("created");
    let port = lab.address(&source).await.port().to_string();
    let args = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-D", "{data}", "-R", "-c", "fast", "--no-sync"];
    let began = Instant::now();
    let output = lab.runtime.run(&copy, &job("pg_basebackup", &args, DEADLINE)).await.expect("ran");
    println!("base backup: {:?}", began.elapsed());
    assert_eq!(output.code, Some(0), "{}", output.output);
    let client = lab.start(&copy).await;
    assert_eq!(text(&client, "SELECT pg_is_in_recovery()::text").await, "true");
    lab.runtime.destroy(&copy).await.expect("destroyed");
    lab.runtime.create(&copy, Origin::Empty, &[]).await.expect("created");
    let in_time = job("pg_basebackup", &args, Duration::from_millis(1));
    let late = lab.runtime.run(&copy, &in_time).await.expect_err("killed at the limit");
    assert!(late.why.contains("killed") && pids(&lab.data(&copy)).is_empty(), "{late}");
    lab.all_gone().await;
}

#[tokio::test]
async fn what_a_dead_owner_left_is_found_and_removed() {
    let gone = Owner { pid_start: 1, ..owner::current(owner::new_lab_id()) };
    let Some(lab) = lab_owned_by(gone).await else { return };
    let node = name("n1");
    lab.create(&node).await;
    drop(lab.start(&node).await);
    let (id, data) = (lab.id(), lab.data(&node));
    let found = listed(&lab.dirs, &id);
    assert!(!found.alive && found.kind == "process tree", "{found:?}");
    let other = Leftover { owner: None, ..found.clone() };
    assert!(clean::remove(&other).is_err(), "another owner than the list said");
    assert!(!pids(&data).is_empty());
    clean::remove(&found).expect("removed");
    assert!(pids(&data).is_empty() && !Path::new(&id).exists());
    clean::remove(&found).expect("removed twice");
}

#[tokio::test]
async fn a_folder_that_is_not_ours_is_never_removed() {
    let Some(lab) = lab().await else { return };
    let foreign = lab.runtime.folder().with_file_name("precious");
    fs::create_dir(&foreign).expect("made");
    assert!(clean::leftovers(&lab.dirs).iter().all(|one| !one.id.ends_with("precious")));
    let mine = listed(&lab.dirs, &lab.id());
    assert!(mine.alive && mine.kind == "folder", "{mine:?}");
    let forged = Leftover { id: foreign.to_string_lossy().into_owned(), ..mine.clone() };
    assert!(clean::remove(&forged).is_err());
    let claimed_dead = Leftover { alive: false, ..mine };
    assert!(clean::remove(&claimed_dead).is_err(), "its owner lives");
    assert!(foreign.exists() && lab.runtime.folder().exists());
    lab.all_gone().await;
}

#[tokio::test]
async fn a_dropped_runtime_leaves_no_server_unless_it_is_kept() {
    for keep in [false, true] {
        let Some(lab) = lab().await else { return };
        let node = name("n1");
        lab.create(&node).await;
        drop(lab.start(&node).await);
        let (id, data) = (lab.id(), lab.data(&node));
        let Lab { runtime, dirs, _folder } = lab;
        if keep {
            runtime.keep();
        }
        drop(runtime);
        assert_eq!(pids(&data).is_empty(), !keep);
        clean::remove(&listed(&dirs, &id)).expect("removed");
        assert!(pids(&data).is_empty() && !Path::new(&id).exists());
    }
}
