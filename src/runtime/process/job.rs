//! Runs one PostgreSQL program to its end, with a limit and its output kept. Knows no nodes.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::account::Account;
use super::log::safe_text;
use super::programs::Programs;
use super::{Failed, blocking, failed, tree};
use crate::runtime::{JobOutput, Result};

/// Of a long output the last part is kept.
const OUTPUT_BYTES: usize = 64 * 1024;
/// How long to wait for the rest of the output once the program has ended (a child of it may hold the pipe open).
const REST: Duration = Duration::from_millis(500);

/// How long killed processes may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A program to run, with everything filled in.
#[derive(Debug)]
pub struct Call<'a> {
    /// A bare name, e.g. `pg_rewind`.
    pub program: &'a str,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment beside the plain one.
    pub env: Vec<(String, String)>,
    /// Where it works: the data directory, so that `tree` finds it.
    pub folder: &'a Path,
    /// After this long it is killed and the call fails.
    pub limit: Duration,
}

/// Runs it as the account. An exit code other than 0 is not an error here.
pub async fn run(programs: &Programs, account: &Account, call: Call<'_>) -> Result<JobOutput> {
    let what = format!("run {}", call.program);
    if call.program.is_empty() || call.program.contains('/') {
        return Err(failed(what, "a program is named without its folder"));
    }
    let mut command = account.command(&programs.path(call.program), call.folder);
    command.args(&call.args).envs(call.env.iter().map(|(key, value)| (key, value)));
    let (reader, writer) = io::pipe().failed(&what)?;
    command.stdout(writer.try_clone().failed(&what)?).stderr(writer);
    let mut group = Group::spawn(command).failed(&what)?;
    let mut pipe = pipe::Receiver::from_owned_fd(reader.into()).failed(&what)?;
    let mut kept = VecDeque::new();
    let end = tokio::select! {
        end = timeout(call.limit, group.child.wait()) => end,
        () = collect(&mut pipe, &mut kept) => timeout(call.limit, group.child.wait()).await,
    };
    let Ok(end) = end else {
        group.kill();
        let folder = call.folder.to_owned();
        // It may have started a server of its own (pg_rewind does): nothing works in the folder when this returns.
        blocking(&what, move || Ok(tree::kill(&folder, KILL_LIMIT))).await?;
        let output = text(&kept);
        return Err(failed(what, format!("not done after {} s; it was killed. {output}", call.limit.as_secs_f32())));
    };
    let status = end.failed(&what)?;
    // What it still had to say: an empty pipe is no proof of the end, so wait for that, but not for ever.
    let rest = timeout_at(Instant::now() + REST, collect(&mut pipe, &mut kept)).await;
    tracing::debug!(program = call.program, ?status, complete = rest.is_ok(), "program ended");
    Ok(JobOutput { code: status.code().map(i64::from), output: text(&kept) })
}

/// Reads until the end of the stream; what it has read is in `kept` even if it is cut short.
async fn collect(pipe: &mut pipe::Receiver, kept: &mut VecDeque<u8>) {
    let mut chunk = vec![0; 8 * 1024];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        kept.extend(&chunk[..count]);
        let surplus = kept.len().saturating_sub(OUTPUT_BYTES);
        kept.drain(..surplus);
    }
}

fn text(kept: &VecDeque<u8>) -> String {
    let bytes: Vec<u8> = kept.iter().copied().collect();
    safe_text(&String::from_utf8_lossy(&bytes))
}

/// The exit code as a shell has it: 128 and the signal's number when a signal ended it.
pub fn exit_code(status: ExitStatus) -> Option<i64> {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).map(i64::from)
}

/// A child with its process group, killed together when this is dropped before the end.
struct Group {
    child: Child,
}

impl Group {
    fn spawn(command: std::process::Command) -> io::Result<Self> {
        Ok(Self { child: Command::from(command).kill_on_drop(true).spawn()? })
    }

    /// As long as the child wasn't waited for, its id can't belong to anybody else.
    fn kill(&self) {
        if let Some(group) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::debug!(%error, "a program ended by itself before it was killed");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
