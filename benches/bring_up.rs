//! Bring-up of a cluster, until every standby streams, in turning order: what can't be undercut, ours (with a template that is
//! there already), and the way by hand.
//!
//! As containers: three that only sleep, on a network of their own, started at once through the API; ours; by hand. As processes:
//! the copies of the template plus the start of prepared directories; ours; by hand. Ours counts from the wish until
//! the last standby is seen to stream: the template looked up, network, containers or copies, relays, passwords, slots. How much later
//! the act ends, after every node answered and was looked at once, is told beside it.

mod common;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use common::lab::{Took, drive};
use common::{Bench, Goal, Oops, Run, Spread, docker, processes};
use futures_util::future::join_all;
use replab::model::msg::Topology;
use replab::pg::TemplateKey;
use replab::runtime::docker::{DockerRuntime, Engine, Image};
use replab::runtime::process::{ProcessRuntime, Programs, clean};
use replab::runtime::{Dirs, Runtime as _, owner};

/// Standbys, and rounds of each size.
const SIZES: [(u32, usize); 3] = [(2, 12), (8, 5), (16, 5)];
/// With so many standbys the slowest bring-up is judged against the fastest.
const STEADY: u32 = 2;
/// So many calm rounds are judged then, unless `--rounds` asks for another number.
const CALM: usize = 10;

/// What a runtime must reach.
struct Goals {
    against: &'static str,
    limit: f64,
    by_hand: f64,
}

const DOCKER: Goals = Goals { against: "bare containers", limit: 1.3, by_hand: 0.4 };
const PROCESS: Goals = Goals { against: "copies and start", limit: 1.25, by_hand: 0.25 };

fn main() -> ExitCode {
    common::run("bring_up", bring_up, docker::sweep)
}

async fn bring_up(bench: &mut Bench) -> Run<()> {
    for (standbys, rounds) in SIZES {
        let case = format!("process 1+{standbys}");
        if bench.wants(&case) {
            as_processes(bench, &case, standbys, rounds).await?;
        }
    }
    for (standbys, rounds) in SIZES {
        let case = format!("docker 1+{standbys}");
        if bench.wants(&case) {
            in_docker(bench, &case, standbys, rounds).await?;
        }
    }
    Ok(())
}

async fn as_processes(bench: &mut Bench, case: &str, standbys: u32, rounds: usize) -> Run<()> {
    let folder = processes::folder()?;
    let ground = Processes::new(folder.path()).await?;
    let count = standbys as usize;
    let (mut turn, mut looks) = (0, Vec::new());
    let figures = measured(bench, standbys, rounds, async |side| {
        turn += 1;
        let below = folder.path().join(format!("{turn}"));
        // The servers end with `_servers`; their files stay until the end.
        let (took, _servers) = match side {
            0 => processes::limit(ground.programs.folder(), &ground.template, &below, count).await?,
            1 => {
                let took = ground.ours(standbys).await?;
                looks.push(took.whole - took.streaming);
                (took.streaming, Vec::new())
            }
            _ => processes::by_hand(ground.programs.folder(), &below, count).await?,
        };
        Ok(took)
    })
    .await?;
    judge(bench, case, &PROCESS, &figures, standbys == STEADY);
    bench.tell(case, &format!("a first answer of and look at every node took {:.0} ms more", Spread::of(&looks)));
    Ok(())
}

async fn in_docker(bench: &mut Bench, case: &str, standbys: u32, rounds: usize) -> Run<()> {
    let folder = processes::folder()?;
    let ground = Containers::new(folder.path()).await?;
    let count = standbys as usize;
    let mut looks = Vec::new();
    let figures = measured(bench, standbys, rounds, async |side| {
        let took = match side {
            0 => docker::bare(&ground.engine, &ground.template, count + 1).await?,
            1 => {
                let took = ground.ours(standbys).await?.0;
                looks.push(took.whole - took.streaming);
                took.streaming
            }
            _ => docker::by_hand(&ground.engine, &ground.image.id, count).await?,
        };
        docker::sweep().await;
        Ok(took)
    })
    .await?;
    judge(bench, case, &DOCKER, &figures, standbys == STEADY);
    bench.tell(case, &format!("a first answer of and look at every node took {:.0} ms more", Spread::of(&looks)));
    Ok(())
}

/// Rounds of the three sides. Where steadiness is judged they go on until enough of them are calm; with twice as many that is sure,
/// because at least half of all rounds are calm.
async fn measured(
    bench: &mut Bench,
    standbys: u32,
    rounds: usize,
    mut measure: impl AsyncFnMut(usize) -> Run<f64>,
) -> Run<[Vec<f64>; 3]> {
    let (rounds, wanted) = (bench.rounds(rounds), bench.rounds(CALM));
    let mut figures = bench.turns::<3>(rounds, &mut measure).await?;
    if standbys != STEADY {
        return Ok(figures);
    }
    loop {
        let [limit, ours, _] = &figures;
        let left = (2 * rounds).saturating_sub(ours.len());
        let missing = wanted.saturating_sub(calm(limit, ours).len()).min(left);
        if missing == 0 {
            return Ok(figures);
        }
        let more = bench.turns::<3>(missing, &mut measure).await?;
        for (side, more) in figures.iter_mut().zip(more) {
            side.extend(more);
        }
    }
}

fn judge(bench: &mut Bench, case: &str, goals: &Goals, figures: &[Vec<f64>; 3], steady: bool) {
    let [limit, ours, by_hand] = figures;
    let case_of = |what: &str| format!("{case} / {what}");
    bench.compare(&case_of(goals.against), "ms", (goals.against, limit), ours, Goal::AtMost(goals.limit));
    bench.compare(&case_of("by hand"), "ms", ("by hand", by_hand), ours, Goal::AtMost(goals.by_hand));
    if steady && ours.len() > 1 {
        let calm = calm(limit, ours);
        let (all, kept) = (Spread::of(ours), Spread::of(&calm));
        bench.tell(case, &format!("in {} of {} rounds the machine itself was calm", calm.len(), ours.len()));
        bench.goal(&case_of("slowest to fastest"), kept.max / kept.min, Goal::AtMost(1.5));
        bench.tell(case, &format!("slowest to fastest of all {} rounds: {:.2}", ours.len(), all.max / all.min));
    }
}

/// Ours in those rounds in which the limit, which nothing of ours is part of, took no more than a quarter above its median: else
/// the machine's stalls would be judged, not ours. At least half of the rounds are kept.
fn calm(limit: &[f64], ours: &[f64]) -> Vec<f64> {
    let usual = 1.25 * Spread::of(limit).median;
    ours.iter().zip(limit).filter(|(_, limit)| **limit <= usual).map(|(ours, _)| *ours).collect()
}

/// What bring-ups as processes share.
struct Processes {
    programs: Programs,
    dirs: Dirs,
    key: TemplateKey,
    template: PathBuf,
}

impl Processes {
    /// Makes the template by a first bring-up.
    async fn new(folder: &Path) -> Run<Self> {
        let programs = Programs::find(None, None)?;
        let dirs = Dirs { cache: folder.join("cache"), state: folder.join("state") };
        let key = TemplateKey::load_or_create(&dirs.cache)?;
        let mut ground = Self { programs, dirs, key, template: PathBuf::new() };
        ground.ours(1).await?;
        let template = clean::leftovers(&ground.dirs).into_iter().find(|one| one.kind == "template");
        ground.template = Path::new(&template.ok_or_else(|| Oops::from("no template was made"))?.id).join("data");
        Ok(ground)
    }

    /// One bring-up; its servers are killed, its files stay.
    async fn ours(&self, standbys: u32) -> Run<Took> {
        let runtime = ProcessRuntime::new(owner::current(owner::new_lab_id()), &self.dirs, self.programs.clone())?;
        let topology = Topology::primary_with(standbys);
        let (took, lab) = drive(runtime, &self.key, &topology).await?;
        lab.end.cancel();
        let gone = join_all(topology.nodes.iter().map(|node| lab.runtime.kill(&node.name))).await;
        gone.into_iter().collect::<Result<Vec<()>, _>>()?;
        Ok(took)
    }
}

/// What bring-ups in containers share.
struct Containers {
    engine: Engine,
    image: Image,
    key: TemplateKey,
    template: String,
}

impl Containers {
    /// Makes the template by a first bring-up, if this user hasn't one.
    async fn new(folder: &Path) -> Run<Self> {
        let (engine, image) = docker::ground().await?;
        let key = match replab::app::setup::dirs() {
            Ok(dirs) => TemplateKey::load_or_create(&dirs.cache)?,
            Err(_) => TemplateKey::load_or_create(folder)?,
        };
        let mut ground = Self { engine, image, key, template: String::new() };
        ground.template = ground.ours(0).await?.1;
        docker::sweep().await;
        Ok(ground)
    }

    /// One bring-up, and the template's image.
    async fn ours(&self, standbys: u32) -> Run<(Took, String)> {
        let owner = owner::current(owner::new_lab_id());
        let runtime = DockerRuntime::new(owner, self.engine.clone(), self.image.clone());
        let (took, lab) = drive(runtime, &self.key, &Topology::primary_with(standbys)).await?;
        let template = lab.runtime.template_image().ok_or_else(|| Oops::from("no template was made"))?;
        replab::drive::close(&lab).await.map_err(|why| Oops::from(why.to_string()))?;
        Ok((took, template))
    }
}
