//! How much room there is for the nodes' data, asked of a running container: for engines whose folder this machine can't
//! see. Knows nothing of what the answer means.

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt;

use super::Engine;
use super::archive::DATA;

/// `df` in a container: POSIX output, blocks of 1024 bytes. None when it doesn't answer.
pub(super) async fn ask(engine: &Engine, id: &str) -> Option<u64> {
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        cmd: Some(vec!["df", "-P", "-k", DATA]),
        ..CreateExecOptions::default()
    };
    let exec = engine.docker.create_exec(id, options).await.ok()?;
    let started = engine.docker.start_exec(&exec.id, None::<StartExecOptions>).await.ok()?;
    let StartExecResults::Attached { mut output, .. } = started else { return None };
    let mut text = String::new();
    while let Some(Ok(part)) = output.next().await {
        text.push_str(&part.to_string());
    }
    available(&text)
}

/// The fourth column of the last line (POSIX, df).
fn available(text: &str) -> Option<u64> {
    let blocks: u64 = text.lines().last()?.split_whitespace().nth(3)?.parse().ok()?;
    blocks.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn df_is_read() {
        let text = "Filesystem 1024-blocks Used Available Capacity Mounted on\noverlay 100 40 60 40% /\n";
        assert_eq!(available(text), Some(60 * 1024));
        assert_eq!(available("df: /x: No such file"), None);
        assert_eq!(available(""), None);
    }
}
