//! An engine that isn't quite at home here: its ports are elsewhere, or a firewall is between their containers and this host. And what a
//! lab listens at, wherever its nodes live. By the program itself.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder};
use rustix::process::{Pid, Signal, kill_process};

use common::firewall::Firewall;
use common::house::{Ground, House, bare, wait_for};

/// The exit code, standard output and standard error.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Nothing of a process that has ended is on the engine.
#[track_caller]
fn assert_left_nothing(house: &House, pid: u32) {
    let labs = house.labs_of(pid);
    assert!(labs.is_empty(), "left of labs {labs:?}");
}

fn run(mut command: Command) -> (u32, (Option<i32>, String, String), Duration) {
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    (pid, told(&child.wait_with_output().unwrap()), began.elapsed())
}

/// The program in a network of its own, as in a container that has the engine's socket.
fn apart(house: &House, words: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_replab")]);
    command.envs(house.env()).args(words);
    command
}

fn can_be_apart() -> bool {
    let can = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).status();
    let can = can.is_ok_and(|status| status.success());
    assert!(can || std::env::var("CI").as_deref() != Ok("true"), "no network of its own on CI");
    if !can {
        eprintln!("skipped: no network of its own can be made (that needs root)");
    }
    can
}

const SOME_WRITES: &str = "title = \"T\"\nsummary = \"S\"\n[[step]]\nwait = \"acked >= 20\"\nwithin = \"30s\"\n";

fn lesson(house: &House, more: &str) -> String {
    let file = house.path().join("lesson.toml");
    fs::write(&file, format!("{SOME_WRITES}{more}")).unwrap();
    file.display().to_string()
}

/// An engine whose ports aren't here is found out at once: it is told what is the case, and `auto` goes on to processes.
#[test]
fn an_engine_in_another_network_is_found_out_at_once() {
    let Some(house) = House::on(Ground::Docker(18)) else { return };
    if !can_be_apart() {
        return;
    }
    let words = ["up", "--headless", "--runtime", "docker", "--image", "replab/postgres:18"];
    let (pid, (code, out, err), took) = run(apart(&house, &words));
    assert_eq!(code, Some(4), "{out}{err}");
    assert!(err.contains("their ports are not at 127.0.0.1 here") && err.contains("--network host"), "{err}");
    println!("told after {took:?}");
    assert!(took < Duration::from_secs(15), "after {took:?}");
    assert_left_nothing(&house, pid);
    if !Ground::Process.is_there() {
        return;
    }
    let (pid, (code, out, err), _) = run(apart(&house, &["play", &lesson(&house, ""), "--json"]));
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(err.contains("their ports are not at 127.0.0.1 here") && err.contains("using the programs in"), "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON alone");
    assert_eq!(report["runtime"], "process");
    assert_left_nothing(&house, pid);
}

/// A firewall between containers and this host: a lesson that cuts links is refused at its start with what mends it, and `auto` plays it
/// as processes; a lesson that cuts none is played.
#[test]
fn a_firewall_is_found_out_before_a_lesson_that_cuts() {
    let Some(house) = House::on(Ground::Docker(18)) else { return };
    if !Firewall::can_be() {
        return;
    }
    let cuts = lesson(&house, "[[step]]\ndo = \"cut p s1\"\n");
    let play = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_replab"));
        command.envs(house.env()).args(["play", &cuts, "--json"]).args(words);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let firewall = wait_for(Firewall::around_lab_of(pid));
        let told = told(&child.wait_with_output().unwrap());
        drop(firewall);
        assert_left_nothing(&house, pid);
        told
    };
    let (code, out, err) = play(&["--runtime", "docker", "--image", "replab/postgres:18"]);
    assert_eq!(code, Some(4), "{out}{err}");
    for part in ["no connection of a container reaches this host", "sudo iptables -I INPUT", "--runtime process"] {
        assert!(err.contains(part), "no {part} in {err}");
    }
    if Ground::Process.is_there() {
        let (code, out, err) = play(&[]);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(err.contains("a firewall drops it") && err.contains("using the programs in"), "{err}");
        let report: serde_json::Value = serde_json::from_str(&out).expect("JSON alone");
        assert_eq!(report["runtime"], "process");
    }
}

/// A socket that listens: where, and its number in /proc.
fn listening() -> Vec<(IpAddr, u16, String)> {
    let mut found = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(file).unwrap_or_default().lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (address, port) = words[1].split_once(':').unwrap();
            if words[3] == "0A" {
                found.push((address_of(address), u16::from_str_radix(port, 16).unwrap(), words[9].to_owned()));
            }
        }
    }
    found
}

/// Words of four bytes, each in this machine's order.
fn address_of(text: &str) -> IpAddr {
    let word = |i: usize| u32::from_str_radix(&text[8 * i..8 * i + 8], 16).unwrap().to_ne_bytes();
    if text.len() == 8 {
        return Ipv4Addr::from(word(0)).into();
    }
    let bytes: Vec<u8> = (0..4).flat_map(word).collect();
    Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()).into()
}

/// The sockets that these processes hold.
fn sockets_of(pids: &BTreeSet<String>) -> BTreeSet<String> {
    let files = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten());
    let links = files.filter_map(|file| fs::read_link(file.path()).ok());
    links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())).collect()
}

/// The servers of a lab that are processes here.
fn servers_of(lab: &str) -> BTreeSet<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let of_lab =
        all.filter(|p| fs::read_link(p.path().join("cwd")).is_ok_and(|cwd| cwd.to_string_lossy().contains(lab)));
    of_lab.map(|p| p.file_name().to_string_lossy().into_owned()).collect()
}

/// The ports that a lab's containers have here, and its network's gateway.
async fn of_engine(lab: &str) -> (BTreeSet<u16>, Option<IpAddr>) {
    let engine = bare().await.expect("an engine");
    let filters = std::collections::HashMap::from([("label".to_owned(), vec![format!("replab.lab={lab}")])]);
    let containers = ListContainersOptionsBuilder::new().filters(&filters).build();
    let containers = engine.list_containers(Some(containers)).await.unwrap();
    let ports = containers.into_iter().flat_map(|one| one.ports.unwrap_or_default());
    let networks = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let networks = engine.list_networks(Some(networks)).await.unwrap();
    let mut configs = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
    (ports.filter_map(|port| port.public_port).collect(), configs.find_map(|config| config.gateway?.parse().ok()))
}

fn up(house: &House) -> (Child, String) {
    let mut child = house.replab(&["up", "--headless"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("nodes are up") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the lab did not come up");
    }
    // What else it says is read until it ends.
    std::thread::spawn(move || drop(lines.read_to_end(&mut Vec::new())));
    let lab = house.labs_of(child.id()).into_iter().next().expect("a lab");
    (child, lab)
}

/// Every socket at which a lab listens, its relays' and the clients' too: nobody beyond this machine reaches one.
fn nobody_beyond_this_machine(ground: Ground) {
    let Some(house) = House::on(ground) else { return };
    let (mut child, lab) = up(&house);
    let slow = Command::new(env!("CARGO_BIN_EXE_replab")).envs(house.env()).args(["do", "slow client p 1ms"]).output();
    assert!(slow.unwrap().status.success());
    let (published, gateway) = match ground {
        Ground::Process => (BTreeSet::new(), None),
        Ground::Docker(_) => wait_for(of_engine(&lab)),
    };
    let mut pids = servers_of(&lab);
    pids.insert(child.id().to_string());
    let ours = sockets_of(&pids);
    let mut seen = Vec::new();
    for (address, port, inode) in listening() {
        if ours.contains(&inode) || published.contains(&port) {
            assert!(address.is_loopback() || Some(address) == gateway, "{address} port {port} is reached from beyond");
            seen.push((address, port));
        }
    }
    // Three servers; a relay of each standby and one of the clients.
    println!("{seen:?}");
    assert!(seen.len() >= 6, "only {seen:?}");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    house.assert_gone(&[lab].into());
}

#[test]
fn processes_listen_for_nobody_beyond_this_machine() {
    nobody_beyond_this_machine(Ground::Process);
}

#[test]
fn containers_listen_for_nobody_beyond_this_machine() {
    nobody_beyond_this_machine(Ground::Docker(18));
}
