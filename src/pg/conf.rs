//! The files of a lab's servers: the template they are copied from, what makes a copy a standby, and the PostgreSQL
//! programs that fill a data directory. Pure: text in, text out; knows no paths but those it is given, and no connection.

use std::fmt::Write as _;
use std::time::Duration;

use super::quote::{conf_value, conninfo_value, is_setting_name, passfile_field};
use super::secret::{Passwords, Secret, TemplateKey};
use super::sql;
use crate::model::{Lsn, NodeName};
use crate::runtime::{Job, NodeFile, Place, Template};

/// What [`passfile`] is called in a node's private place.
pub const PASSFILE: &str = "passfile";
/// Where [`superuser_file`] puts the password that [`initdb_job`] reads.
const SUPERUSER_FILE: &str = "superuser";
/// Settings of one lab, read by every server of it; see [`overrides_file`].
const OVERRIDES: &str = "replab.conf";

/// Lines for every server. Where it listens is the runtime's business (on its command line), so it isn't here.
///
/// Sources: manual 19 for each name; facts "Limits to set in the template" (the defaults end at 1+10 nodes and at a
/// mesh of four), "Rejoining the old primary" (`wal_log_hints`, `wal_keep_size`), "Cutting the network"
/// (`wal_retrieve_retry_interval`), and the classifier's need of `lc_messages` = C. GMT is the one time zone for which a server opens
/// no file (`pg_tzset` in its source): in a container the list of all zones would be read, a tenth of what its start costs the engine.
const CONF: &str = "\
# Laid down by replab. Settings of one lab are in replab.conf, those of one server in postgresql.auto.conf.
lc_messages = 'C'
lc_monetary = 'C'
lc_numeric = 'C'
lc_time = 'C'
datestyle = 'iso, ymd'
timezone = 'GMT'
log_timezone = 'GMT'
log_line_prefix = '%m [%p] '
password_encryption = 'scram-sha-256'
wal_level = logical
wal_log_hints = on
hot_standby = on
max_connections = 150
max_wal_senders = 40
max_replication_slots = 40
max_logical_replication_workers = 24
max_sync_workers_per_subscription = 1
max_worker_processes = 40
shared_buffers = 32MB
dynamic_shared_memory_type = posix
min_wal_size = 32MB
max_wal_size = 256MB
wal_keep_size = 64MB
wal_retrieve_retry_interval = 500ms
include_if_exists = 'replab.conf'
";

/// Every host logs in by password. `local` is for a person who is the server's own user on its machine or in its
/// container, and for relays that dial a socket file; the runtime has its own rules while it makes the template (manual 21.1).
const HBA: &str = "\
# Laid down by replab.
local all         postgres                 peer
local all         all                      scram-sha-256
local replication replab_repl              scram-sha-256
host  replication replab_repl all          scram-sha-256
host  all         all         all          scram-sha-256
";

/// The lab's own connections, and nobody else's.
const HBA_CUT_OFF: &str = "\
# Laid down by replab: this server is only read, and nobody may follow it.
host  lab,postgres replab all scram-sha-256
";

/// The template of all labs that share `key`.
pub fn template(key: &TemplateKey) -> Template {
    let initdb = ["--wal-segsize=1", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"];
    Template {
        initdb: initdb.map(str::to_owned).to_vec(),
        conf: CONF.to_owned(),
        hba: HBA.to_owned(),
        sql: sql::template(&key.sql()),
    }
}

/// A setting and its value, as in `--set work_mem=8MB`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    name: String,
    value: String,
}

/// The text can't be a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` can't be a setting: write name=value, on one line")]
pub struct BadSetting(String);

impl Setting {
    /// A setting, if the name has the shape of one and the value is one line. Whether PostgreSQL knows it is PostgreSQL's
    /// to say (the server doesn't start, and its log says why).
    pub fn new(name: &str, value: &str) -> Result<Self, BadSetting> {
        if is_setting_name(name) && !value.chars().any(char::is_control) {
            Ok(Self { name: name.to_ascii_lowercase(), value: value.to_owned() })
        } else {
            Err(BadSetting(format!("{name}={value}").chars().take(80).collect()))
        }
    }

    /// The name, in lower case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value, unquoted.
    pub fn value(&self) -> &str {
        &self.value
    }

    fn line(&self) -> String {
        format!("{} = {}\n", self.name, conf_value(&self.value))
    }
}

impl std::str::FromStr for Setting {
    type Err = BadSetting;

    fn from_str(text: &str) -> Result<Self, BadSetting> {
        let (name, value) = text.split_once('=').ok_or_else(|| BadSetting(text.chars().take(80).collect()))?;
        Self::new(name.trim(), value.trim())
    }
}

/// Where ALTER SYSTEM writes.
pub const AUTO_CONF: &str = "postgresql.auto.conf";

/// The settings a person chose for the whole lab (`--set`), for every server of it. They are beside the template and not
/// in it, so that one template serves all labs; ALTER SYSTEM still beats them.
pub fn overrides_file(settings: &[Setting]) -> NodeFile {
    data(OVERRIDES, settings.iter().map(Setting::line).collect())
}

/// Where a standby gets its WAL from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Host name or address, as the node reaches it (a relay, or the other server directly).
    pub host: String,
    /// Port.
    pub port: u16,
    /// The slot on the upstream, if the standby uses one.
    pub slot: Option<String>,
}

impl Upstream {
    /// Reached there, with the slot that bears the standby's own name.
    pub fn with_slot(host: String, port: u16, standby: &NodeName) -> Self {
        Self { host, port, slot: Some(standby.as_str().to_owned()) }
    }
}

/// The value of `primary_conninfo` (manual 19.6.3): no password; it names the node, which is what the synchronous rule
/// matches; and it spares the TLS and GSS questions that a server without either would only refuse.
pub fn primary_conninfo(node: &NodeName, upstream: &Upstream, passfile: &str) -> String {
    format!(
        "host={} port={} user={} application_name={} passfile={} connect_timeout=5 sslmode=disable gssencmode=disable",
        conninfo_value(&upstream.host),
        upstream.port,
        sql::REPL_ROLE,
        conninfo_value(node.as_str()),
        conninfo_value(passfile),
    )
}

/// The files of a node that begins as primary: its name, the lab's settings, and the passfile it needs as soon as it
/// becomes a standby. `own` are settings of this server alone; the last of one name wins.
pub fn primary_files(node: &NodeName, passwords: &Passwords, lab: &[Setting], own: &[Setting]) -> Vec<NodeFile> {
    vec![overrides_file(lab), auto_conf(node, None, own), passfile(&passwords.replication)]
}

/// The files of a standby: those of [`primary_files`], `standby.signal`, and where it streams from. `passfile_path` is
/// the real path of [`PASSFILE`] as the server sees it.
pub fn standby_files(
    node: &NodeName,
    upstream: &Upstream,
    passfile_path: &str,
    passwords: &Passwords,
    lab: &[Setting],
    own: &[Setting],
) -> Vec<NodeFile> {
    let from = (upstream, passfile_path);
    vec![
        overrides_file(lab),
        auto_conf(node, Some(from), own),
        passfile(&passwords.replication),
        data("standby.signal", String::new()),
    ]
}

/// The files of a server that is started only to be read: a standby of nobody, which lets nobody in but the lab. Whatever
/// its history, it never becomes a primary. It stays on its own timeline: one that had begun to follow another may have fetched
/// that one's history, and would refuse to start ("requested timeline ... is not a child", facts).
pub fn cut_off_files(node: &NodeName, lab: &[Setting], own: &[Setting]) -> Vec<NodeFile> {
    let stays = Setting { name: "recovery_target_timeline".to_owned(), value: "current".to_owned() };
    let own: Vec<Setting> = own.iter().cloned().chain([stays]).collect();
    vec![
        data("standby.signal", String::new()),
        overrides_file(lab),
        auto_conf(node, None, &own),
        data("pg_hba.conf", HBA_CUT_OFF.to_owned()),
    ]
}

/// Who may log in, as on every server of the lab.
pub fn hba_file() -> NodeFile {
    data("pg_hba.conf", HBA.to_owned())
}

/// A server's own settings, kept in its private place while its data directory may not have them; [`own_settings`] reads it.
pub fn kept_file(own: &[Setting]) -> NodeFile {
    NodeFile { place: Place::Private("settings".to_owned()), text: own.iter().map(Setting::line).collect() }
}

/// The settings in the text of a `postgresql.auto.conf` that are the server's own: all but its name and whom it follows.
pub fn own_settings(auto_conf: &str) -> Vec<Setting> {
    let setting = |line: &str| {
        let (name, value) = line.split_once('=').filter(|_| !line.trim_start().starts_with('#'))?;
        let value = value.trim();
        let inside = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')).unwrap_or(value);
        let value = inside.replace("''", "'").replace("\\\\", "\\");
        Setting::new(name.trim(), &value).ok()
    };
    // The last is what [`cut_off_files`] adds for a while: left behind, it would keep a standby from ever following a promotion.
    let ours = [
        "cluster_name",
        "primary_conninfo",
        "primary_slot_name",
        "wal_retrieve_retry_interval",
        "recovery_target_timeline",
    ];
    auto_conf.lines().filter_map(setting).filter(|s| !ours.contains(&s.name())).collect()
}

/// A server's own settings where it is to follow one with these: numbers that a standby may not have lower are at least as high.
pub fn at_least(own: Vec<Setting>, needed: &[Setting]) -> Vec<Setting> {
    let number = |s: &Setting| s.value.parse::<u64>().unwrap_or(0);
    let enough = |need: &&Setting| !own.iter().any(|s| s.name == need.name && number(s) >= number(need));
    let more: Vec<Setting> = needed.iter().filter(enough).cloned().collect();
    let kept = own.into_iter().filter(|s| !more.iter().any(|m| m.name == s.name));
    kept.chain(more.iter().cloned()).collect()
}

/// Where ALTER SYSTEM writes, with these settings beside what it had: the last of one name wins.
pub fn raised_file(auto_conf: &str, settings: &[Setting]) -> NodeFile {
    data(AUTO_CONF, auto_conf.to_owned() + &settings.iter().map(Setting::line).collect::<String>())
}

/// Prints the control file of a server that is down.
pub fn control_data_job() -> Job {
    let args = vec!["-D".to_owned(), "{data}".to_owned()];
    let env = vec![("LC_ALL".to_owned(), "C".to_owned())];
    Job { program: "pg_controldata".to_owned(), args, env, limit: Duration::from_secs(20), ..Job::default() }
}

/// What [`control_data_job`] printed: whether the server was shut down, and where its last checkpoint record is.
pub fn read_control_data(text: &str) -> Option<(bool, Lsn)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
    let down = field("Database cluster state:")?.starts_with("shut down");
    Some((down, field("Latest checkpoint location:")?.parse().ok()?))
}

/// The whole of `postgresql.auto.conf` for a node: to be laid down again after every base copy and every rewind, which
/// bring the source's (facts "Rejoining the old primary").
fn auto_conf(node: &NodeName, from: Option<(&Upstream, &str)>, own: &[Setting]) -> NodeFile {
    let mut text = "# Laid down by replab; ALTER SYSTEM writes here too.\n".to_owned();
    let mut line = |name: &str, value: &str| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{name} = {}", conf_value(value));
    };
    line("cluster_name", node.as_str());
    if let Some((upstream, passfile_path)) = from {
        line("primary_conninfo", &primary_conninfo(node, upstream, passfile_path));
        if let Some(slot) = &upstream.slot {
            line("primary_slot_name", slot);
        }
    }
    for setting in own {
        line(&setting.name, &setting.value);
    }
    data(AUTO_CONF, text)
}

/// The passfile (manual 34.16): the replication role's password, for any host.
pub fn passfile(replication: &Secret) -> NodeFile {
    let text = format!("*:*:*:{}:{}\n", sql::REPL_ROLE, passfile_field(replication.reveal()));
    NodeFile { place: Place::Private(PASSFILE.to_owned()), text }
}

fn data(name: &str, text: String) -> NodeFile {
    NodeFile { place: Place::Data(name.to_owned()), text }
}

/// Fills an empty data directory from a running server (manual, `pg_basebackup`): streamed WAL, at once, no manifest.
/// The files of the node are laid down after it. The slot, if any, must be there already.
pub fn base_backup_job(upstream: &Upstream) -> Job {
    let mut args = vec!["-D", "{data}", "--checkpoint=fast", "--wal-method=stream", "--no-sync", "--no-manifest", "-w"]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    args.push(format!("--dbname={}", job_conninfo(upstream, "replication")));
    if let Some(slot) = &upstream.slot {
        args.push(format!("--slot={slot}"));
    }
    let program = "pg_basebackup".to_owned();
    Job { program, args, env: passfile_env(), limit: Duration::from_mins(5), silent: true, ..Job::default() }
}

/// Takes a stopped, diverged server back to where it can follow `source` (manual, `pg_rewind`). The caller has started
/// and cleanly stopped the server (after a kill), and has run CHECKPOINT on the source: on PostgreSQL 15 `pg_rewind` says
/// "no rewind required" until the source's first checkpoint after promotion (facts).
pub fn rewind_job(source: &Upstream) -> Job {
    let server = job_conninfo(source, "postgres");
    let args = vec![
        "--target-pgdata={data}".to_owned(),
        format!("--source-server={server}"),
        "--no-sync".to_owned(),
        "--progress".to_owned(),
    ];
    let program = "pg_rewind".to_owned();
    Job { program, args, env: passfile_env(), limit: Duration::from_mins(5), silent: true, ..Job::default() }
}

/// The connection string of a program that runs beside the node; `PGPASSFILE` brings the password. `database` is ignored
/// by `pg_basebackup`.
fn job_conninfo(upstream: &Upstream, database: &str) -> String {
    format!(
        "host={} port={} user={} dbname={database} connect_timeout=5 sslmode=disable gssencmode=disable",
        conninfo_value(&upstream.host),
        upstream.port,
        sql::REPL_ROLE,
    )
}

fn passfile_env() -> Vec<(String, String)> {
    vec![("PGPASSFILE".to_owned(), format!("{{private}}/{PASSFILE}"))]
}

/// Makes a server of its own, with another system identifier (`add x fresh`). [`superuser_file`] is laid down before,
/// [`fresh_files`] after.
pub fn initdb_job(key: &TemplateKey) -> Job {
    let mut args = vec!["-D".to_owned(), "{data}".to_owned(), format!("--username={}", sql::CONTROL_ROLE)];
    args.push(format!("--pwfile={{private}}/{SUPERUSER_FILE}"));
    args.push("--auth=scram-sha-256".to_owned());
    args.extend(template(key).initdb);
    Job { program: "initdb".to_owned(), args, limit: Duration::from_mins(1), silent: true, ..Job::default() }
}

/// The password that [`initdb_job`] gives its superuser.
pub fn superuser_file(passwords: &Passwords) -> NodeFile {
    NodeFile { place: Place::Private(SUPERUSER_FILE.to_owned()), text: format!("{}\n", passwords.control.reveal()) }
}

/// The files of a server that [`initdb_job`] made: it has no roles but the control role, and no lab tables.
pub fn fresh_files(node: &NodeName, passwords: &Passwords, lab: &[Setting], own: &[Setting]) -> Vec<NodeFile> {
    let mut files = primary_files(node, passwords, lab, own);
    files.push(data("postgresql.conf", CONF.to_owned()));
    files.push(data("pg_hba.conf", HBA.to_owned()));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Upstream {
        Upstream { host: "10.0.0.1".to_owned(), port: 7001, slot: Some("s1".to_owned()) }
    }

    fn file<'a>(files: &'a [NodeFile], name: &str) -> &'a str {
        let is = |f: &&NodeFile| matches!(&f.place, Place::Data(n) | Place::Private(n) if n == name);
        &files.iter().find(is).unwrap().text
    }

    #[test]
    fn a_standby_is_told_its_upstream_without_a_password() {
        let passwords = Passwords::random().unwrap();
        let node: NodeName = "s1".parse().unwrap();
        let own = [Setting::new("recovery_min_apply_delay", "4s").unwrap()];
        let files = standby_files(&node, &upstream(), "/it's/pass", &passwords, &[], &own);
        let auto = file(&files, "postgresql.auto.conf");
        assert!(auto.contains(r"primary_conninfo = 'host=''10.0.0.1'' port=7001 user=replab_repl "));
        assert!(auto.contains(r"application_name=''s1'' passfile=''/it\\''s/pass'' "), "{auto}");
        assert!(auto.contains("primary_slot_name = 's1'\ncluster_name") || auto.contains("primary_slot_name = 's1'\n"));
        assert!(auto.contains("recovery_min_apply_delay = '4s'\n"));
        assert_eq!(file(&files, "standby.signal"), "");
        let pass = file(&files, PASSFILE);
        assert_eq!(pass, format!("*:*:*:replab_repl:{}\n", passwords.replication.reveal()));
        let with_it = files.iter().filter(|f| f.text.contains(passwords.replication.reveal())).count();
        assert_eq!(with_it, 1);
    }

    #[test]
    fn a_server_keeps_its_own_settings_and_no_other() {
        let text = "# comment = 'x'\ncluster_name = 'p'\nprimary_conninfo = 'host=a'\nwork_mem = '8MB'\n\
                    archive_command = 'it''s a\\\\b'\nsynchronous_standby_names = ''\n";
        let own = own_settings(text);
        let pairs: Vec<_> = own.iter().map(|s| (s.name(), s.value())).collect();
        assert_eq!(pairs, [("work_mem", "8MB"), ("archive_command", r"it's a\b"), ("synchronous_standby_names", "")]);
        let node: NodeName = "p".parse().unwrap();
        let files = cut_off_files(&node, &[], &own);
        let auto = file(&files, "postgresql.auto.conf");
        assert!(!auto.contains("primary_conninfo") && auto.contains(r"'it''s a\\b'"), "{auto}");
        assert!(auto.contains("recovery_target_timeline = 'current'"), "{auto}");
        assert_eq!(own_settings(auto), own, "what is added for the while doesn't stay");
        assert_eq!(own_settings(&kept_file(&own).text), own);
        assert!(!file(&files, "pg_hba.conf").contains("replication"));
    }

    #[test]
    fn what_a_standby_may_not_have_lower_is_raised_and_nothing_else() {
        let set = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| Setting::new(n, v).unwrap()).collect::<Vec<_>>();
        let own = set(&[("work_mem", "8MB"), ("max_connections", "200"), ("max_wal_senders", "50")]);
        let needed = set(&[("max_connections", "300"), ("max_wal_senders", "45"), ("max_worker_processes", "60")]);
        let raised = set(&[
            ("work_mem", "8MB"),
            ("max_wal_senders", "50"),
            ("max_connections", "300"),
            ("max_worker_processes", "60"),
        ]);
        assert_eq!(at_least(own, &needed), raised);
        assert_eq!(raised_file("a = '1'\n", &needed[..1]).text, "a = '1'\nmax_connections = '300'\n");
    }

    #[test]
    fn the_control_file_is_read() {
        let text = "Database cluster state:               shut down\nLatest checkpoint location:           0/3000028\n";
        assert_eq!(read_control_data(text), Some((true, Lsn(0x300_0028))));
        assert_eq!(read_control_data("could not open"), None);
    }

    #[test]
    fn settings_are_checked_and_quoted() {
        let setting: Setting = "Work_Mem = it's 8".parse().unwrap();
        assert_eq!(overrides_file(&[setting]).text, "work_mem = 'it''s 8'\n");
        for bad in ["work_mem", "a b=1", "x=1\ny=2", "=1"] {
            assert!(bad.parse::<Setting>().is_err(), "{bad}");
        }
    }

    #[test]
    fn jobs_name_places_not_paths() {
        let key = TemplateKey::random().unwrap();
        for job in [base_backup_job(&upstream()), rewind_job(&upstream()), initdb_job(&key)] {
            assert!(job.args.iter().any(|arg| arg.contains("{data}")), "{job:?}");
            assert!(!format!("{job:?}").contains(key.secret.reveal()));
        }
        assert!(base_backup_job(&upstream()).args.contains(&"--slot=s1".to_owned()));
    }

    #[test]
    fn the_template_has_no_password_in_clear_text() {
        let key = TemplateKey::random().unwrap();
        let template = template(&key);
        assert!(template.sql.contains("SCRAM-SHA-256$1:"));
        assert!(!format!("{template:?}").contains(key.secret.reveal()));
        assert_eq!(super::template(&key), template, "the cache key must stay the same");
    }
}
