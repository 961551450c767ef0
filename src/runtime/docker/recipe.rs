//! Builds the base image from Debian's packages with the recipe that is part of this program. Knows no labs.

use std::io;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::connect::Engine;
use super::failure::{hinted, plain};
use super::image::{Image, ImageChoice, find_image};
use super::text::safe_text;
use crate::runtime::{Progress, Result};

const SCRIPTS: [(&str, &str); 2] = [
    ("build.sh", include_str!("../../../assets/image/build.sh")),
    ("docker-entrypoint.sh", include_str!("../../../assets/image/docker-entrypoint.sh")),
];
/// What the recipe says begins with this.
const SIGN: &str = "replab-image: ";
/// By this variable the recipe is told how its messages name the way to run it again.
const AGAIN: &str = "REPLAB_BUILD_COMMAND";
/// The recipe's exit status when a person has to do something first.
const NEEDS_A_PERSON: i32 = 4;

/// Why the image can't be built on this machine; None when it can be tried.
pub fn build_refusal(choice: &ImageChoice) -> Option<String> {
    if choice.explicit.is_some() {
        Some("an image named by hand isn't built".to_owned())
    } else if !geteuid().is_root() {
        Some("building an image needs root".to_owned())
    } else if !Path::new("/etc/debian_version").exists() {
        Some("building an image needs a Debian-like system".to_owned())
    } else {
        None
    }
}

/// Builds the image; takes a minute and needs a Debian mirror.
pub async fn build(engine: &Engine, choice: &ImageChoice, progress: &Progress) -> Result<Image> {
    let name = choice.built_name();
    let what = format!("build {name}");
    if let Some(why) = build_refusal(choice) {
        return Err(plain(what, why));
    }
    let folder = tempfile::tempdir().map_err(|err| plain(&what, err.to_string()))?;
    let child = laid_out(folder.path(), choice, engine.socket())
        .map_err(|err| plain(&what, err.to_string()))?
        .spawn()
        .map_err(|err| plain(&what, format!("bash can't be run: {err}")))?;
    follow(Building(child), &what, &name, progress).await?;
    let found = find_image(engine, &ImageChoice { explicit: Some(name), ..choice.clone() }).await?;
    found.ok_or_else(|| plain(what, "the recipe ended well, but the image isn't here"))
}

/// The recipe in this folder, ready to be run. The folder is gone when somebody reads the recipe's messages: what they say to run
/// again is our own command.
fn laid_out(folder: &Path, choice: &ImageChoice, socket: &Path) -> io::Result<Command> {
    for (file, text) in SCRIPTS {
        std::fs::write(folder.join(file), text)?;
    }
    let mut command = Command::new("bash");
    command
        .arg(folder.join("build.sh"))
        .args([&choice.major.to_string(), &choice.built_name()])
        .env(AGAIN, format!("replab image build --postgres {}", choice.major))
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Ok(command)
}

/// A build under way; asked to stop (and to tidy up after itself) when nobody waits for it any more.
struct Building(Child);

impl Drop for Building {
    fn drop(&mut self) {
        let pid = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // It may have ended in this moment: then there is nothing to stop.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

async fn follow(mut building: Building, what: &str, name: &str, progress: &Progress) -> Result<()> {
    let mut last = String::new();
    if let Some(stderr) = building.0.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Some(said) = line.strip_prefix(SIGN) else { continue };
            match said.strip_prefix("phase ") {
                // Whoever started this may have stopped listening; the build goes on.
                Some(phase) => drop(progress.send(format!("building {name}: {}", safe_text(phase)))),
                None => said.clone_into(&mut last),
            }
        }
    }
    let status = building.0.wait().await.map_err(|err| plain(what, err.to_string()))?;
    if status.success() {
        return Ok(());
    }
    let why = last.strip_prefix("error: ").unwrap_or(&last);
    match why.split_once(" Run: ").filter(|_| status.code() == Some(NEEDS_A_PERSON)) {
        Some((why, command)) => Err(hinted(what, why, safe_text(command))),
        None if why.is_empty() => Err(plain(what, format!("the recipe failed: {status}"))),
        None => Err(plain(what, why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(script: &str) -> (Result<()>, Vec<String>) {
        let child = Command::new("bash").arg("-c").arg(script).stderr(Stdio::piped()).spawn().expect("bash");
        let (progress, mut phases) = tokio::sync::mpsc::unbounded_channel();
        let result = follow(Building(child), "build x", "x", &progress).await;
        drop(progress);
        let mut all = Vec::new();
        while let Some(phase) = phases.recv().await {
            all.push(phase);
        }
        (result, all)
    }

    #[tokio::test]
    async fn phases_are_passed_on() {
        let (result, phases) = told("echo 'replab-image: phase pack x' >&2; echo noise >&2").await;
        assert!(result.is_ok());
        assert_eq!(phases, ["building x: pack x"]);
    }

    #[tokio::test]
    async fn a_missing_tool_comes_with_its_command() {
        let (result, _) =
            told("echo 'replab-image: error: no docker. Run: apt-get install -y docker.io' >&2; exit 4").await;
        let err = result.expect_err("exit 4");
        assert_eq!((err.why.as_str(), err.hint.as_deref()), ("no docker.", Some("apt-get install -y docker.io")));
        let (result, _) = told("exit 7").await;
        assert!(result.expect_err("exit 7").why.contains('7'));
    }

    #[tokio::test]
    async fn what_is_to_be_run_again_is_still_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let choice = ImageChoice { explicit: None, major: 17 };
        let mut command = laid_out(folder.path(), &choice, Path::new("/nowhere")).expect("written");
        // Whoever runs it: that it needs root is what the recipe says before it does anything.
        let child = command.env("BASH_FUNC_id%%", "() { echo 1000; }").spawn().expect("bash");
        let (progress, _phases) = tokio::sync::mpsc::unbounded_channel();
        let err = follow(Building(child), "build x", "x", &progress).await.expect_err("no root");
        assert_eq!(err.hint.as_deref(), Some("sudo replab image build --postgres 17"));
    }

    #[test]
    fn no_message_names_the_recipe_itself() {
        let named = SCRIPTS[0].1.lines().filter(|line| line.contains("$here/build.sh $major $tag"));
        assert_eq!(named.count(), 1, "where it is chosen what they name");
    }

    #[test]
    fn an_image_named_by_hand_is_not_built() {
        let choice = ImageChoice { explicit: Some("my/pg".into()), major: 17 };
        assert!(build_refusal(&choice).is_some());
    }
}
