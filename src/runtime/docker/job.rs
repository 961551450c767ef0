//! Runs a program once in a node's container that isn't running: a job file is laid in, and the container started.

use std::time::Duration;

use bollard::Docker;

use super::archive::{self, Account, DATA, NEW_DATA, PRIVATE, Pack};
use super::failure;
use super::held::Held;
use super::nodes::Nodes;
use super::text::safe_lines;
use super::wait;
use crate::model::NodeName;
use crate::runtime::{Job, JobOutput, NodeFile, Result};

/// Where the first process looks for a job.
pub(super) const FILE: &str = "/replab/job";
/// Where it is while it runs: see `node.sh`.
const TAKEN: &str = "/replab/job.taken";
/// Where the job's output goes.
pub(super) const OUTPUT: &str = "/replab/job.out";
/// The end of a longer output is kept.
const OUTPUT_CHARS: usize = 64 * 1024;
/// A shell tells a signal by a code above this.
const SIGNAL_BASE: i64 = 128;
/// How long a killed job may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A container in which a job runs.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) docker: &'a Docker,
    pub(super) nodes: &'a Nodes,
    pub(super) node: &'a NodeName,
    pub(super) id: &'a str,
    pub(super) account: Account,
}

impl Place<'_> {
    /// A start of a container that was to be held and isn't is one like others, also where its first process was killed before it took
    /// notice.
    pub(super) async fn no_more_held(&self, what: &str) -> Result<()> {
        if !self.nodes.untell_to_hold(self.node) {
            return Ok(());
        }
        let mut pack = Pack::new(self.account);
        pack.held(false)?;
        let laid = pack.upload(self.docker, self.id, what).await;
        if laid.is_err() {
            self.nodes.tell_to_hold(self.node);
        }
        laid
    }
}

/// Runs the job in a container that is held. One that breaks off leaves it down, and not held.
pub(super) async fn run_held(place: &Place<'_>, held: &Held, job: &Job) -> Result<JobOutput> {
    let what = format!("run {} on {}", job.program, place.node);
    let ran = async {
        if !job.before.is_empty() {
            let mut pack = Pack::new(place.account);
            pack.node_files(&job.before)?;
            pack.upload(place.docker, place.id, &what).await?;
        }
        held.run(&held_script(job)?, job.limit, &what).await
    };
    let ran = ran.await;
    if ran.is_err() {
        place.nodes.let_go(place.node);
        super::node::kill(place.docker, place.id, KILL_LIMIT, &what).await?;
    }
    output(place, job, ran?, &what).await
}

/// Runs the job. What the engine tells of the container meanwhile isn't the node's state, and is kept back.
pub(super) async fn run(place: &Place<'_>, job: &Job) -> Result<JobOutput> {
    let what = format!("run {} on {}", job.program, place.node);
    refuse_running(place, &what).await?;
    lay(place, &script(job)?, &job.before, &what).await?;
    let quiet = place.nodes.begin_job(place.node);
    if let Err(err) = place.docker.start_container(place.id, None).await {
        place.nodes.forget_job(place.id);
        lay(place, "", &[], &what).await?;
        return Err(failure::engine(what, &err));
    }
    let waited = wait::until_stopped(place.docker, place.id, job.limit, &what).await;
    if waited.is_err() {
        super::node::kill(place.docker, place.id, KILL_LIMIT, &what).await?;
        lay(place, "", &[], &what).await?;
    }
    quiet.ended().await;
    output(place, job, waited?, &what).await
}

/// What is told of a job that ended with this code.
async fn output(place: &Place<'_>, job: &Job, code: i64, what: &str) -> Result<JobOutput> {
    if code == 0 && job.silent {
        return Ok(JobOutput { code: Some(0), output: String::new() });
    }
    let told = archive::read(place.docker, place.id, OUTPUT, what).await?.unwrap_or_default();
    Ok(JobOutput { code: (code <= SIGNAL_BASE).then_some(code), output: safe_lines(end_of(&told)) })
}

async fn refuse_running(place: &Place<'_>, what: &str) -> Result<()> {
    let found = place.docker.inspect_container(place.id, None).await;
    let state = found.map_err(|err| failure::engine(what, &err))?.state.unwrap_or_default();
    if state.running == Some(true) {
        return Err(failure::hinted(what, "the server runs", format!("stop it first: stop {}", place.node)));
    }
    Ok(())
}

/// Lays the job in, and what it needs; an empty one means that there is none.
async fn lay(place: &Place<'_>, script: &str, files: &[NodeFile], what: &str) -> Result<()> {
    let mut pack = Pack::new(place.account);
    pack.file(FILE, 0o600, script)?;
    if !script.is_empty() {
        pack.file(OUTPUT, 0o600, "")?;
    }
    pack.node_files(files)?;
    pack.upload(place.docker, place.id, what).await
}

/// The program takes the shell's place, so that it is the container's first process; where files come after it, the shell lays them. They
/// may hold passwords, so the script goes then.
fn script(job: &Job) -> Result<String> {
    if job.after.is_empty() && !job.anew {
        return Ok(format!("exec {}\n", call(job)));
    }
    Ok(format!("rm -f {TAKEN}\numask 077\n{}{}", work(job), archive::script(&job.after)?))
}

/// The program; one that fills a data directory anew leaves the old one alone until it has succeeded. The old one's entries are removed
/// and not the directory itself, which may be of the image: such a one can't be renamed. The configuration is moved last but for the
/// log's folder, and a directory without it counts as none.
fn work(job: &Job) -> String {
    let call = call(job);
    if !job.anew {
        return format!("{call} || exit $?\n");
    }
    format!(
        "rm -rf {NEW_DATA} && mkdir {NEW_DATA} || exit 125\n\
         {call} || {{ code=$?; rm -rf {NEW_DATA}; exit $code; }}\n\
         find {DATA} -mindepth 1 -delete && mv {NEW_DATA}/* {DATA}/ && rmdir {NEW_DATA} || exit 125\n"
    )
}

/// The same for a first process that goes on: it hears the end.
fn held_script(job: &Job) -> Result<String> {
    let (work, after) = (work(job), archive::script(&job.after)?);
    Ok(format!("(\nrm -f {DATA}/postmaster.pid\n{work}{after}) >{OUTPUT} 2>&1 </dev/null\necho \"ended $?\"\n"))
}

fn call(job: &Job) -> String {
    let mut words = vec!["env".to_owned()];
    let data = if job.anew { NEW_DATA } else { DATA };
    let filled_in = |text: &str| text.replace("{data}", data).replace("{private}", PRIVATE);
    words.extend(job.env.iter().map(|(name, value)| quoted(&format!("{name}={}", filled_in(value)))));
    words.push(quoted(&job.program));
    words.extend(job.args.iter().map(|arg| quoted(&filled_in(arg))));
    words.join(" ")
}

/// `text` as one word of a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn end_of(told: &str) -> &str {
    let from = told.char_indices().rev().nth(OUTPUT_CHARS - 1).map_or(0, |(at, _)| at);
    &told[from..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Place as Wherever;

    #[test]
    fn placeholders_and_quotes_are_filled_in() {
        let job = Job {
            program: "pg_rewind".into(),
            args: vec!["-D".into(), "{data}".into(), "it's".into()],
            env: vec![("PGPASSFILE".into(), "{private}/passfile".into())],
            limit: Duration::from_secs(1),
            ..Job::default()
        };
        let want = r"exec env 'PGPASSFILE=/replab/private/passfile' 'pg_rewind' '-D' '/replab/data' 'it'\''s'";
        assert_eq!(script(&job).unwrap().trim_end(), want);
    }

    #[test]
    fn files_that_come_after_are_laid_only_where_it_succeeds() {
        let file = NodeFile { place: Wherever::Data("standby.signal".into()), text: String::new() };
        let job = Job { program: "pg_rewind".into(), after: vec![file], ..Job::default() };
        let script = script(&job).unwrap();
        let at = |part: &str| script.find(part).unwrap_or_else(|| panic!("{part} is not in {script}"));
        assert!(at("rm -f /replab/job.taken") < at("env 'pg_rewind' || exit $?"));
        assert!(at("env 'pg_rewind' || exit $?") < at("/replab/data/standby.signal"));
        assert!(!script.contains("exec"), "the shell stays: {script}");
    }

    #[test]
    fn a_directory_filled_anew_takes_its_place_only_where_that_succeeded() {
        let job = Job { program: "pg_basebackup".into(), args: vec!["-D{data}".into()], anew: true, ..Job::default() };
        for script in [script(&job).unwrap(), held_script(&job).unwrap()] {
            let at = |part: &str| script.find(part).unwrap_or_else(|| panic!("{part} is not in {script}"));
            let (call, gone) =
                (at("'pg_basebackup' '-D/replab/data.new'"), at("find /replab/data -mindepth 1 -delete"));
            assert!(
                call < at("exit $code") && at("exit $code") < gone && gone < at("mv /replab/data.new/*"),
                "{script}"
            );
            assert!(!script.contains("exec"), "the shell stays: {script}");
        }
    }

    #[test]
    fn the_end_of_a_long_output_is_kept() {
        let told = "ä".repeat(OUTPUT_CHARS) + "end";
        assert!(end_of(&told).ends_with("end"));
        assert_eq!(end_of(&told).chars().count(), OUTPUT_CHARS);
        assert_eq!(end_of("short"), "short");
    }
}
