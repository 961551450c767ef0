//! Other engines than this machine's own: Debian's newest Docker and Podman, and an old Podman, each run for the test alone.

mod common;

use std::path::Path;
use std::process::Output;

use common::engines::run;

/// Plays these lessons one after the other and says how each ended.
const PLAY: &str = r#"for lesson in $LESSONS; do
    "$0" play "$lesson" --headless --runtime docker --image replab/postgres:18 2>&1 | tail -n 40
    echo "lesson $lesson ended with ${PIPESTATUS[0]}"
done
echo "left: $(docker ps -aq | wc -l) containers""#;

fn play(engine: &str, lessons: &str) -> Option<Output> {
    run(engine, &format!("LESSONS='{lessons}'\n{PLAY}"))
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[track_caller]
fn assert_played(engine: &str, lessons: &str) {
    let Some(output) = play(engine, lessons) else { return };
    let said = said(&output);
    for lesson in lessons.split(' ') {
        assert!(said.contains(&format!("lesson {lesson} ended with 0")), "{said}");
    }
    assert!(said.contains("left: 0 containers"), "{said}");
}

/// A held container hears all that it is told, though the engine throws away what it has not passed on when the connection closes.
#[test]
fn docker_28_plays_the_old_primarys_return() {
    assert_played("docker-28", "22");
}

/// Several lines of a log bear the same stamp here, and refusals are worded otherwise.
#[test]
fn podman_5_plays_the_old_primarys_return() {
    assert_played("podman-5", "22");
}

/// Without root and on control groups of the first kind nothing can be frozen, and what freezes nobody is played: here containers reach
/// this host by another address than their gateway's.
#[test]
fn podman_5_without_root_says_what_it_cant() {
    let script = format!("LESSONS='01 10'\n{PLAY}\n\"$0\" doctor | grep freeze");
    let Some(output) = run("podman-5-rootless", &script) else { return };
    let said = said(&output);
    assert!(said.contains("lesson 01 ended with 0"), "{said}");
    assert!(said.contains("left: 0 containers"), "{said}");
    // A machine whose control groups are of the second kind can freeze without root.
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        assert!(said.contains("lesson 10 ended with 0"), "{said}");
    } else {
        assert!(said.contains("lesson 10 ended with 4"), "{said}");
        let sentence = "this engine can't freeze containers: ";
        let (played, doctor) = said.split_once("left: 0 containers").unwrap_or_default();
        let (_, refused) = played.split_once("lesson 01 ended").unwrap_or_default();
        assert!(refused.contains(sentence) && doctor.contains(sentence), "the lesson and doctor say so: {said}");
    }
}

/// The template of the first lab is found by the second, and goes with all the rest: there an image takes no labels from a configuration.
#[test]
fn podman_4_knows_its_own_template() {
    // Nothing of this machine's own labs is seen, nor of other tests' templates; and nothing of an earlier run is left.
    let script = format!(
        "mount -t tmpfs tmpfs /var/tmp\nexport XDG_CACHE_HOME=/var/tmp/cache\n\"$0\" clean --all >&2\nLESSONS='01 01'\n{PLAY}\n\
         docker images --format '{{{{.Repository}}}}' | grep -c replab/template\n\
         \"$0\" clean --all\necho \"cleaned with $?\"\ndocker images --format '{{{{.Repository}}}}' | grep -c replab/template"
    );
    let Some(output) = run("podman-4", &script) else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.matches("lesson 01 ended with 0").count(), 2, "{said}");
    assert!(said.contains("left: 0 containers\n1\n"), "one template: {said}");
    assert!(said.contains("cleaned with 0") && said.ends_with("\n0\n"), "no template is left: {said}");
}
