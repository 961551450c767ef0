//! Every command of the lab on real PostgreSQL, its effect confirmed by plain SQL.

mod common;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::stage::{DEADLINE, Stage, name};
use replab::model::cluster::NodeState;
use replab::model::command::Rate;
use replab::model::ledger::Ids;
use replab::model::msg::{Origin, WriterPlan};
use replab::model::standing::Link;
use replab::model::{Model, Stamp};
use replab::runtime::Runtime;

const IDENTIFIER: &str = "SELECT system_identifier FROM pg_control_system()";
const ROWS: &str = "SELECT count(*) FROM replab.writes";
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

fn steady() -> WriterPlan {
    WriterPlan { clients: 4, rate: Rate::PerSecond(200), ..WriterPlan::default() }
}

everywhere! { steady();
    rules_and_commits_that_wait
    writers_and_settings
    nodes_come_and_go
    links_and_faults
    reset_brings_back_the_first_state
    lag_is_what_a_row_probe_sees
}

fn acked(m: &Model) -> u64 {
    m.ledger.counts().acked
}

fn link(m: &Model, standby: &str) -> Link {
    m.rung(m.node(&name(standby)).unwrap()).link
}

fn silent(m: &Model, standby: &str) -> bool {
    matches!(link(m, standby), Link::LastKnown { .. })
}

fn sender(standby: &str, column: &str) -> String {
    format!("SELECT {column} FROM pg_stat_replication WHERE application_name = '{standby}'")
}

/// How old the newest visible row is when it becomes visible here, in microseconds: the middle one of what a loop in the server sees.
const ROW_PROBE: &str = "\
DO $$ DECLARE seen timestamptz; now_seen timestamptz; ages float8[] := '{}';
BEGIN
    SELECT coalesce(max(at), '-infinity') INTO seen FROM replab.writes;
    FOR turn IN 1..600 LOOP
        SELECT max(at) INTO now_seen FROM replab.writes;
        IF now_seen > seen THEN
            ages := ages || date_part('epoch', clock_timestamp() - now_seen);
            seen := now_seen;
        END IF;
        PERFORM pg_sleep(0.002);
    END LOOP;
    PERFORM set_config('probe.age',
        (SELECT (1e6 * percentile_cont(0.5) WITHIN GROUP (ORDER BY age))::bigint FROM unnest(ages) age)::text, false);
END $$;
SELECT current_setting('probe.age')";

/// Behind by a known time, shown lag and a row probe agree within 10 % (or 2 ms); level, it is 0.
async fn lag_is_what_a_row_probe_sees<R: Runtime>(mut stage: Stage<R>) {
    let lag = |m: &Model| m.rung(m.node(&name("s1")).unwrap()).lag_us;
    // The heartbeat alone makes a lag too: the probe needs rows.
    stage.until_so("writes", |m| acked(m) > 100).await;
    stage.command("set recovery_min_apply_delay 400ms on s1").await;
    stage.until_so("s1 to be behind", |m| lag(m).is_some_and(|us| us > 350_000)).await;
    let mut shown = Vec::new();
    let probed = stage.psql_while("s1", ROW_PROBE, |m| shown.extend(lag(m))).await.unwrap();
    shown.sort_unstable();
    let (shown, probed) = (shown[shown.len() / 2] as f64, probed.parse::<f64>().unwrap());
    println!("lag shown {:.1} ms, a row probe sees {:.1} ms", shown / 1e3, probed / 1e3);
    assert!((shown - probed).abs() <= (0.1 * probed).max(2_000.0), "shown {shown} us, probed {probed} us");
    stage.command("set recovery_min_apply_delay default on s1").await;
    stage.command("pause").await;
    stage.until_so("nothing to be behind", |m| lag(m) == Some(0)).await;
    let level = "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) < 1000";
    stage.until_psql("s1", level, "t").await;
    stage.close().await;
}

async fn all_clients_wait<R: Runtime>(stage: &mut Stage<R>) {
    stage.until_so("all clients to wait", |m| m.waiting().len() == 4).await;
    stage.until_psql("p", WAITING, "4").await;
}

async fn nobody_waits<R: Runtime>(stage: &mut Stage<R>) {
    let before = acked(stage.model());
    stage.until_so("acknowledged writes", |m| acked(m) > before + 20).await;
}

/// The writer rests, and the table has what the books have: how many of the writes were acknowledged.
async fn rest<R: Runtime>(stage: &mut Stage<R>) -> u64 {
    stage.rest().await;
    let end = Instant::now() + DEADLINE;
    loop {
        let there = stage.psql("p", ROWS).await;
        let counts = stage.model().ledger.counts();
        // What was cancelled or terminated while it waited is on the primary, too.
        let written = counts.acked + counts.acked_with_warning + counts.unknown;
        if (counts.pending, written.to_string()) == (0, there.clone()) {
            return counts.acked;
        }
        assert!(Instant::now() < end, "{there} rows, and the books say {counts:?}");
    }
}

/// Gives a command and waits for what it should bring; from asking to seeing.
async fn seen_after<R: Runtime>(stage: &mut Stage<R>, command: &str, seen: impl Fn(&Model) -> bool) -> Duration {
    let began = Instant::now();
    stage.session.ask(command.parse().unwrap(), Origin::You);
    stage.until_so(command, seen).await;
    let took = began.elapsed();
    println!("{command}: seen after {} ms", took.as_millis());
    stage.until_so("its end", |m| m.ops.is_empty()).await;
    took
}

/// How many of these rows a node has.
async fn rows_of<R: Runtime>(stage: &mut Stage<R>, node: &str, ids: &Ids) -> String {
    let ranges = ids.iter().flat_map(|(client, set)| {
        set.as_slice().iter().map(move |(first, last)| format!("client = {client} AND seq BETWEEN {first} AND {last}"))
    });
    let these = ranges.collect::<Vec<_>>().join(" OR ");
    stage.psql(node, &format!("SELECT count(*) FROM replab.writes WHERE {these}")).await
}

/// The middle one: neither a slow moment of the machine nor a lucky one decides.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Changes the rule so that commits which wait are let go; from the reload, as the server tells it, to the lab showing them released.
async fn released_after<R: Runtime>(stage: &mut Stage<R>, command: &str) -> Duration {
    let waited = acked(stage.model());
    stage.session.ask(command.parse().unwrap(), Origin::You);
    stage.until_so(command, |m| acked(m) >= waited + 4).await;
    let shown = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    stage.until_so("its end", |m| m.ops.is_empty()).await;
    // To a session that is new it tells when the server itself last read its files.
    let reload = stage.psql("p", "SELECT (1e6 * date_part('epoch', pg_conf_load_time()))::bigint").await;
    let took = shown.saturating_sub(Duration::from_micros(reload.parse().unwrap()));
    println!("{command}: released {} ms after the reload", took.as_millis());
    took
}

async fn rules_and_commits_that_wait<R: Runtime>(mut stage: Stage<R>) {
    let (mut released, mut moved) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        stage.command("sync first 1 (s1)").await;
        assert_eq!(stage.psql("p", "SHOW synchronous_standby_names").await, "FIRST 1 (s1)");
        stage.until_psql("p", &sender("s1", "sync_state"), "sync").await;
        stage.command("freeze s1").await;
        all_clients_wait(&mut stage).await;
        moved.push(released_after(&mut stage, "sync first 1 (s2)").await);
        stage.command("sync first 1 (s1)").await;
        all_clients_wait(&mut stage).await;
        released.push(released_after(&mut stage, "sync off").await);
        assert_eq!(stage.psql("p", "SHOW synchronous_standby_names").await, "");
        stage.command("thaw s1").await;
        stage.until_psql("s1", "SELECT 1", "1").await;
    }
    println!("released after the reload: {released:?}; where the rule moved on: {moved:?}");
    // The best shows what the lab can do, the median that this is no luck; a slow moment of the machine decides neither.
    assert!(released.iter().min() < Some(&Duration::from_millis(50)), "released only after {released:?}");
    assert!(
        moved.iter().min() < Some(&Duration::from_millis(150)),
        "released only after {moved:?}, where the rule moved on"
    );
    assert!(median(released) < Duration::from_millis(250) && median(moved) < Duration::from_millis(400));
    cancelled_and_terminated(&mut stage).await;
    rules_that_hang(&mut stage).await;
    stage.command("sync any 1 (s1, s2)").await;
    assert_eq!(stage.psql("p", "SHOW synchronous_standby_names").await, "ANY 1 (s1, s2)");
    stage.until_psql("p", &sender("s2", "sync_state"), "quorum").await;
    stage.command("freeze s1").await;
    nobody_waits(&mut stage).await;
    stage.close().await;
}

async fn cancelled_and_terminated<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("sync first 1 (s1)").await;
    stage.command("freeze s1").await;
    all_clients_wait(stage).await;
    stage.command("cancel").await;
    stage.until_so("acks with a warning", |m| m.ledger.counts().acked_with_warning >= 4).await;
    let warned = stage.model().ledger.warned.clone();
    assert_eq!(rows_of(stage, "p", &warned).await, stage.model().ledger.counts().acked_with_warning.to_string());
    all_clients_wait(stage).await;
    stage.command("terminate").await;
    stage.until_so("unknown outcomes", |m| m.ledger.counts().unknown >= 4).await;
    let unknown = stage.model().ledger.unknown.clone();
    assert_eq!(rows_of(stage, "p", &unknown).await, stage.model().ledger.counts().unknown.to_string());
    stage.command("thaw s1").await;
    nobody_waits(stage).await;
}

async fn rules_that_hang<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("sync first 1 (nobody)").await;
    assert!(stage.journal().contains("no standby is called nobody"), "{}", stage.journal());
    all_clients_wait(stage).await;
    stage.command("sync first 1 (s1)").await;
    stage.command("commit remote_apply").await;
    nobody_waits(stage).await;
    stage.command("replay pause s1").await;
    assert_eq!(stage.psql("s1", "SELECT pg_is_wal_replay_paused()").await, "t");
    all_clients_wait(stage).await;
    stage.command("replay resume s1").await;
    assert_eq!(stage.psql("s1", "SELECT pg_is_wal_replay_paused()").await, "f");
    nobody_waits(stage).await;
    // Under `on` a standby that doesn't replay holds nobody up, under `local` not even a frozen one. The writer rests
    // meanwhile: a commit that began at the old level would wait for ever, as it should.
    for (level, fault) in [("commit on", "replay pause s1"), ("commit local", "freeze s1")] {
        stage.command(level).await;
        rest(stage).await;
        stage.command(fault).await;
        stage.command("resume").await;
        nobody_waits(stage).await;
        stage.command("heal").await;
    }
    stage.command("commit on").await;
}

async fn writers_and_settings<R: Runtime>(mut stage: Stage<R>) {
    stage.until_so("writes", |m| acked(m) > 20).await;
    let before = rest(&mut stage).await;
    stage.command("write").await;
    stage.command("write 5").await;
    stage.until_so("six writes", |m| acked(m) == before + 6).await;
    assert_eq!(stage.psql("p", ROWS).await, (before + 6).to_string());
    stage.command("clients 7").await;
    stage.command("rate max").await;
    stage.command("resume").await;
    let writers = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'replab writer%'";
    stage.until_psql("p", writers, "7").await;
    nobody_waits(&mut stage).await;
    stage.command("rate 50").await;
    stage.command("target s1").await;
    stage.until_so("refused writes", |m| m.ledger.counts().failed > 0).await;
    stage.until_psql("p", writers, "0").await;
    stage.command("target primary").await;
    nobody_waits(&mut stage).await;
    stage.command("clients 0").await;
    stage.until_psql("p", writers, "0").await;
    // Their last answers are on their way when their connections are gone.
    stage.books_are_up_to_date().await;
    stage.command("verify").await;
    let judged = stage.model().verification.clone().unwrap();
    assert_eq!((judged.lost, judged.verdict.word()), (0, "sound"));
    assert_eq!(judged.nodes[&name("p")].present, acked(stage.model()));
    the_heart_beats(&mut stage).await;
    idle_is_that_nobody_writes(&mut stage).await;
    shown_steps_are_what_ran(&mut stage).await;
    settings_and_sql(&mut stage).await;
    stage.close().await;
}

async fn the_heart_beats<R: Runtime>(stage: &mut Stage<R>) {
    let beat = "SELECT beat FROM replab.heartbeat";
    stage.command("heartbeat off").await;
    // A beat or two may be on their way; then twenty looks, far longer than a beat, must find the same.
    let (mut last, mut same, end) = (stage.psql("p", beat).await, 0, Instant::now() + DEADLINE);
    while same < 20 {
        let now = stage.psql("p", beat).await;
        same = if now == last { same + 1 } else { 0 };
        last = now;
        assert!(Instant::now() < end, "it goes on beating");
    }
    stage.command("heartbeat on").await;
    let again = format!("SELECT beat <> {last} FROM replab.heartbeat");
    stage.until_psql("p", &again, "t").await;
}

/// Some 200 small commits a second for two seconds, by psql: the standby is level again after each.
const OTHER_WRITER: &str = "\
DO $$ BEGIN
    FOR turn IN 1..400 LOOP
        INSERT INTO others VALUES (turn, repeat('x', 200));
        COMMIT;
        PERFORM pg_sleep(0.005);
    END LOOP;
END $$";

/// The lab's writer rests, and psql writes: level isn't idle then. Afterwards it is.
async fn idle_is_that_nobody_writes<R: Runtime>(stage: &mut Stage<R>) {
    let s1 = |m: &Model| m.rung(m.node(&name("s1")).unwrap());
    stage.until_so("s1 to be idle", |m| s1(m).idle).await;
    stage.psql("p", "CREATE TABLE others (turn int, payload text)").await;
    let mut looks: Vec<(Option<Stamp>, bool, bool)> = Vec::new();
    let look = |m: &Model| {
        let seen = m.node(&name("p")).unwrap().seen;
        if looks.last().is_none_or(|(last, ..)| *last != seen) {
            looks.push((seen, s1(m).behind == Some(0), s1(m).idle));
        }
    };
    stage.psql_while("p", OTHER_WRITER, look).await.unwrap();
    let counted = |wanted| looks.iter().filter(|(_, level, idle)| (*level, *idle) == wanted).count();
    println!("{} looks: {} level, {} idle", looks.len(), counted((true, false)), counted((true, true)));
    assert!(looks.len() >= 6 && counted((true, false)) > 0, "{looks:?}");
    // Before the writing, across its beginning, across its end.
    assert!(counted((true, true)) <= 3, "{looks:?}");
    stage.until_so("s1 to be idle again", |m| s1(m).idle).await;
    stage.psql("p", "DROP TABLE others").await;
}

/// What `J` shows of an act is the SQL that ran: where the server logs statements it has that very text, and a person may run
/// it again as it stands.
async fn shown_steps_are_what_ran<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("set log_statement ddl").await;
    for node in ["p", "s1", "s2"] {
        stage.until_psql(node, "SHOW log_statement", "ddl").await;
    }
    for command in [
        "set log_filename it's\\.log on s1",
        "sync first 1 (s1)",
        "sync off",
        "cancel",
        "terminate",
        "replay pause s1",
        "replay resume s1",
        "follow s2 s1",
        "follow s2 p",
        "set log_filename default on s1",
    ] {
        stage.command(command).await;
        let steps = stage.model().journal.entries().rev().find(|e| !e.steps.is_empty()).unwrap().steps.clone();
        let sql: Vec<(&str, &str)> = steps.iter().filter_map(|step| step.split_once(": ")).collect();
        assert!(!sql.is_empty(), "{command}: {steps:?}");
        for (node, text) in sql {
            if text.starts_with("ALTER SYSTEM") {
                let ran = format!("statement: {text}");
                let logged = |m: &Model| m.node(&name(node)).unwrap().logs.iter().any(|l| l.line.text == ran);
                stage.until_so(&ran, logged).await;
            }
            stage.psql(node, text).await;
        }
    }
    stage.command("set log_statement default").await;
}

async fn settings_and_sql<R: Runtime>(stage: &mut Stage<R>) {
    let at_first = stage.psql("s2", "SHOW work_mem").await;
    stage.command("set work_mem '9MB' on s1").await;
    stage.until_psql("s1", "SHOW work_mem", "9MB").await;
    assert_eq!(stage.psql("s2", "SHOW work_mem").await, at_first);
    stage.command("set work_mem 7MB").await;
    for node in ["p", "s1", "s2"] {
        stage.until_psql(node, "SHOW work_mem", "7MB").await;
    }
    stage.command("set work_mem default").await;
    stage.until_psql("s2", "SHOW work_mem", &at_first).await;
    assert!(stage.try_command("set work_mem lots").await.is_err(), "PostgreSQL refuses that");
    assert!(stage.try_command("set nosuch_setting 1").await.is_err(), "PostgreSQL knows no such setting");
    stage.command("sql p CREATE TABLE seen AS SELECT 40 + 2 AS answer").await;
    stage.until_psql("s1", "SELECT answer FROM seen", "42").await;
    stage.command("sql s1 SELECT answer FROM seen").await;
    let (node, result) = stage.model().sql.clone().unwrap();
    assert_eq!((node, result.rows), (name("s1"), vec![vec![Some("42".to_owned())]]));
    stage.command("sql s1 DROP TABLE seen").await;
    let (_, result) = stage.model().sql.clone().unwrap();
    assert_eq!(result.error.map(|(state, _)| state).as_deref(), Some("25006"));
}

async fn nodes_come_and_go<R: Runtime>(mut stage: Stage<R>) {
    let slots = |node: &str| format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{node}'");
    let ours = stage.psql("p", IDENTIFIER).await;
    stage.command("add s3").await;
    assert_eq!(stage.psql("p", &sender("s3", "state")).await, "streaming");
    assert_eq!(
        (stage.psql("s3", IDENTIFIER).await, stage.psql("p", &slots("s3")).await),
        (ours.clone(), "1".to_owned())
    );
    // A base backup brings a label, which the server sets aside when it has begun; a copy of the template has none.
    for (node, labels) in [("s1", "0"), ("s2", "0"), ("s3", "1")] {
        let label = "SELECT count(*) FROM pg_ls_dir('.') AS file WHERE file = 'backup_label.old'";
        assert_eq!(stage.psql(node, label).await, labels, "{node}");
    }
    stage.command("add x fresh").await;
    assert_ne!(stage.psql("x", IDENTIFIER).await, ours);
    assert_eq!(stage.psql("x", "SELECT pg_is_in_recovery()").await, "f");
    stage.command("remove x").await;
    stage.command("remove s3").await;
    assert!(stage.model().node(&name("s3")).is_none());
    stage.until_psql("p", &slots("s3"), "0").await;
    stage.until_psql("p", &sender("s3", "count(*)"), "0").await;
    stage.command("follow s2 s1").await;
    stage.until_psql("s1", &sender("s2", "state"), "streaming").await;
    stage.until_psql("p", &sender("s2", "count(*)"), "0").await;
    assert_eq!(stage.psql("p", &slots("s2")).await, "0", "the old upstream keeps no WAL for it");
    stage.command("stop s2").await;
    assert!(matches!(stage.model().node(&name("s2")).unwrap().state, NodeState::Exited(_)));
    assert!(stage.try_psql("s2", "SELECT 1").await.is_err());
    stage.command("start s2").await;
    stage.until_psql("s1", &sender("s2", "state"), "streaming").await;
    passwords_stay_secret(&mut stage).await;
    killed_and_promoted(&mut stage).await;
    stage.close().await;
}

/// The words of every process of this machine, those in containers too.
fn command_lines() -> Vec<(String, String)> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
    let words = |file: std::path::PathBuf| Some((file.display().to_string(), std::fs::read(file).ok()?));
    processes.filter_map(words).map(|(what, bytes)| (what, String::from_utf8_lossy(&bytes).into_owned())).collect()
}

/// None is where others could read it: not in what the engine tells, not in an argument, not in a standby's way to its primary.
async fn passwords_stay_secret<R: Runtime>(stage: &mut Stage<R>) {
    let passwords = stage.session.lab.passwords.clone();
    let mut told = command_lines();
    assert!(told.iter().any(|(_, words)| words.contains("postgres")), "the servers' words are among them");
    for node in ["p", "s1", "s2"] {
        let way = stage.psql(node, "SHOW primary_conninfo").await;
        assert_eq!(way.contains("passfile="), node != "p", "{node}: {way}");
        told.push((format!("primary_conninfo of {node}"), way));
        if let Some(inspected) = stage.inspected(node).await {
            assert!(inspected.contains(&stage.model().lab), "{inspected}");
            told.push((format!("inspect {node}"), inspected));
        }
    }
    told.push(("the journal".to_owned(), stage.journal()));
    for secret in [&passwords.control, &passwords.writer, &passwords.lesson, &passwords.replication] {
        assert!(secret.reveal().len() > 10);
        let tellers = told.iter().filter(|(_, text)| text.contains(secret.reveal()));
        let tellers: Vec<&String> = tellers.map(|(what, _)| what).collect();
        assert!(tellers.is_empty(), "a password is in {tellers:?}");
    }
}

async fn killed_and_promoted<R: Runtime>(stage: &mut Stage<R>) {
    let down = |m: &Model| matches!(m.node(&name("s1")).unwrap().state, NodeState::Exited(_));
    let (mut shown, limit) = (Duration::MAX, Duration::from_millis(250));
    // A slow moment of the machine doesn't decide: the best of a few.
    for _ in 0..6 {
        shown = shown.min(seen_after(stage, "kill s1", down).await);
        assert!(stage.try_psql("s1", "SELECT 1").await.is_err());
        stage.command("start s1").await;
        stage.until_psql("p", &sender("s1", "state"), "streaming").await;
        if shown < limit {
            break;
        }
    }
    assert!(shown < limit, "shown as down only after {} ms", shown.as_millis());
    stage.command("kill p").await;
    stage.command("promote s1").await;
    assert_eq!(stage.psql("s1", "SELECT pg_is_in_recovery()").await, "f");
    assert_eq!(stage.psql("s1", "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 8, 1)").await, "2");
    nobody_waits(stage).await;
    stage.until_psql("s1", &sender("s2", "state"), "streaming").await;
    stage.until_psql("s2", "SELECT received_tli FROM pg_stat_wal_receiver", "2").await;
}

/// From the fault to the moment the lab calls the standby's figures old.
async fn called_old<R: Runtime>(stage: &mut Stage<R>, fault: &str, cure: &str, standby: &str) {
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        fastest = fastest.min(seen_after(stage, fault, |m| silent(m, standby)).await);
        assert_eq!(stage.psql("p", &sender(standby, "state")).await, "streaming", "PostgreSQL knows nothing yet");
        stage.command(cure).await;
        stage.until_so("fresh figures", |m| matches!(link(m, standby), Link::Connected(_))).await;
    }
    assert!(fastest < Duration::from_secs(1), "{fault}: called old only after {} ms", fastest.as_millis());
}

async fn links_and_faults<R: Runtime>(mut stage: Stage<R>) {
    let rows = "SELECT count(*) FROM probe";
    stage.command("sql p CREATE TABLE probe (id int PRIMARY KEY)").await;
    stage.psql("p", "INSERT INTO probe VALUES (1)").await;
    stage.until_psql("s1", rows, "1").await;
    stage.command("cut p s1").await;
    stage.psql("p", "INSERT INTO probe VALUES (2)").await;
    stage.until_psql("s2", rows, "2").await;
    stage.until_so("s1 to be silent", |m| silent(m, "s1")).await;
    assert_eq!(stage.psql("s1", rows).await, "1", "the row must not get through a cut");
    stage.command("heal p s1").await;
    let took = stage.until_psql("s1", rows, "2").await;
    println!("the row arrived {} ms after the heal", took.as_millis());
    // Faults belong to pairs, whether there is a link now or not.
    stage.command("cut s1 s2").await;
    stage.command("heal s1 s2").await;
    stage.until_so("s1 to stream", |m| matches!(link(m, "s1"), Link::Connected(_))).await;
    called_old(&mut stage, "cut p s1", "heal", "s1").await;
    called_old(&mut stage, "freeze s2", "thaw s2", "s2").await;
    stage.command("freeze p").await;
    assert!(stage.try_command("sync off").await.unwrap_err().contains("frozen"));
    stage.command("thaw p").await;
    nobody_waits(&mut stage).await;
    many_faults_at_once(&mut stage).await;
    stage.close().await;
}

/// `heal` undoes all of them.
async fn many_faults_at_once<R: Runtime>(stage: &mut Stage<R>) {
    stage.command("replay pause s1").await;
    stage.command("cut p s1").await;
    stage.command("kill s2").await;
    stage.command("heal").await;
    assert!(stage.model().faults().is_empty(), "{:?}", stage.model().faults());
    assert_eq!(stage.psql("s1", "SELECT pg_is_wal_replay_paused()").await, "f");
    stage.psql("p", "INSERT INTO probe VALUES (3)").await;
    for standby in ["s1", "s2"] {
        stage.until_psql(standby, "SELECT count(*) FROM probe", "3").await;
    }
}

async fn reset_brings_back_the_first_state<R: Runtime>(mut stage: Stage<R>) {
    let old = stage.psql("p", "SELECT pg_postmaster_start_time()").await;
    for command in ["add s3", "sync first 1 (s1)", "sql p CREATE TABLE junk ()", "cut p s2", "kill s3", "kill p"] {
        stage.command(command).await;
    }
    for command in ["clients 1", "commit local", "pause", "heartbeat off"] {
        stage.command(command).await;
    }
    stage.command("promote s1").await;
    let spoiled = stage.command("reset").await;
    let first = stage.model().bring_up_ms.unwrap();
    let said = stage.journal();
    assert!(said.contains("back in its first state after"), "{said}");
    assert!(!said.contains("went down by itself"), "{said}");
    let names: Vec<String> = stage.model().nodes.iter().map(|n| n.name.to_string()).collect();
    assert_eq!((names.join(" "), stage.model().primary.clone()), ("p s1 s2".to_owned(), Some(name("p"))));
    assert!(stage.model().faults().is_empty());
    assert!(stage.model().heartbeat);
    let plan = WriterPlan { target: Some(name("p")), ..steady() };
    assert_eq!(stage.model().writer.plan, plan, "the writer begins anew");
    assert_ne!(stage.psql("p", "SELECT pg_postmaster_start_time()").await, old);
    assert_eq!(stage.psql("p", "SHOW synchronous_standby_names").await, "");
    assert_eq!(stage.psql("p", "SELECT to_regclass('junk') IS NULL").await, "t");
    let streaming = "SELECT string_agg(application_name, ' ' ORDER BY application_name) FROM pg_stat_replication WHERE state = 'streaming'";
    stage.until_psql("p", streaming, "s1 s2").await;
    nobody_waits(&mut stage).await;
    rest(&mut stage).await;
    stage.command("verify").await;
    assert_eq!(stage.model().verification.clone().unwrap().verdict.word(), "sound");
    // Everything goes and comes again: no more than what taking it up costs, as often. The machine's own pace is in both.
    let again = stage.command("reset").await;
    let up = stage.model().bring_up_ms.unwrap();
    println!("reset took {spoiled:?}, and {again:?} with nothing broken; {first} and {up} ms of that to come up again");
    let close = [(spoiled, first), (again, up)].iter().any(|(took, up)| *took < Duration::from_millis(up * 3));
    assert!(close, "reset took {spoiled:?}, and {again:?} again; coming up {first} and {up} ms");
    stage.close().await;
}
