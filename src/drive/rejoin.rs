//! A node comes back as a standby: what only it has is counted while nobody else can reach it, then it is rewound, or made anew.
//!
//! It never runs as a primary on this way: `standby.signal` is laid down before its first start and again after every program that
//! may take it away (pg_rewind copies its source, which is a primary). It is read as a standby of nobody, which replays all of its
//! own log and lets nobody in but the lab.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join;
use tokio::time::{Instant, sleep};

use super::bring_up::{drop_slot, run_job, standby_files};
use super::failover::Telling;
use super::{Done, Failure, Lab, Steps, failover, faults, judge, links};
use crate::model::cluster::Sample;
use crate::model::command::Way;
use crate::model::ledger::{self, Ids, minus};
use crate::model::lineage::{Pair, Parting};
use crate::model::msg::{Happened, Reached, Rejoined, Road};
use crate::model::verdict::NodeReading;
use crate::model::{Lsn, NodeName};
use crate::pg::conf::{self, Setting, Upstream};
use crate::pg::control::Control;
use crate::pg::sql;
use crate::runtime::{Job, NodeFile, Place, Runtime};

/// A running node that is to come back is given so long to stop; then it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// A rewound node that doesn't stream after this won't: its source lacks the WAL.
const STREAM_LIMIT: Duration = Duration::from_secs(10);
/// All of a standby's own log is replayed when it stands still for so long.
const STILL: Duration = Duration::from_millis(50);

/// What was found on the node itself.
struct Found {
    only: Ids,
    timeline: u32,
    end: Lsn,
}

/// A node on its way back.
struct Return<'a, R: Runtime> {
    lab: &'a Arc<Lab<R>>,
    node: &'a NodeName,
    source: &'a NodeName,
    from: Upstream,
    /// Its own settings, as they were found in it.
    own: Vec<Setting>,
    /// Whether there is a whole database in it.
    whole: bool,
    /// Whose histories they are on.
    histories: &'a Pair,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Who comes back,
    pub node: &'a NodeName,
    /// to whom,
    pub source: &'a NodeName,
    /// how, if that was said,
    pub way: Option<Way>,
    /// and whose histories they are on, as far as the lab saw.
    pub histories: &'a Pair,
}

pub async fn rejoin<R: Runtime>(telling: &Telling<'_, R>, asked: &Asked<'_>, steps: &mut Steps) -> Done {
    let lab = telling.lab;
    let done = come_back(telling, asked, steps).await;
    lab.phase(Some(asked.node), "").await;
    let done = done?;
    lab.look_around().await;
    Ok(Happened::Rejoined(done))
}

async fn come_back<R: Runtime>(
    telling: &Telling<'_, R>,
    asked: &Asked<'_>,
    steps: &mut Steps,
) -> Result<Rejoined, Failure> {
    let (lab, Asked { node, source, way, histories }) = (telling.lab, *asked);
    lab.phase(Some(node), "stopping").await;
    down(lab, node, steps).await?;
    let there = lab.control(source)?;
    steps.sql(source, sql::CHECKPOINT);
    steps.sql(source, sql::create_slot(node.as_str()));
    let source_is_ready = async {
        there.checkpoint().await?;
        Ok::<_, Failure>(there.create_slot(node.as_str()).await?)
    };
    // A file out of a container costs an eighth of a second: meanwhile the source gets ready.
    let ((own, readable), ()) = try_join(inside(lab, node), source_is_ready).await?;
    let own = conf::at_least(own, &there.altered_limits().await?);
    let (from, whole) = (links::link(lab, node, source).await?, readable.is_ok());
    let back = Return { lab, node, source, from, own, whole, histories };
    let found = match readable {
        Ok(()) => match back.count(steps).await {
            Ok(found) => found,
            // What can't be counted for a reason that says nothing of its rows isn't thrown away unless that is asked for.
            Err(Failure(why)) if way != Some(Way::Rebuild) => return Err(back.not_counted(&why).await?),
            Err(why) => Err(why),
        },
        Err(why) => Err(why),
    };
    // What can still be looked at is told now: the way back may throw it away.
    if let Ok(found) = &found {
        telling.reached(Reached::Counted(found.only.clone())).await;
    }
    let sample = there.sample().await?;
    let parting = match &found {
        Ok(found) => parting(&there, histories, found, &sample).await?,
        Err(Failure(why)) => Err(why.clone()),
    };
    let fork = match parting {
        Ok(Parting::Left(at) | Parting::Apart(at)) => at,
        _ => None,
    };
    let (road, detour) = back.travel(&found, parting, &sample, way, steps).await?;
    let end = found.as_ref().ok().map(|f| f.end);
    let only = found.map(|f| f.only).map_err(|Failure(why)| why);
    Ok(Rejoined { road, detour, source: source.clone(), fork, end, only })
}

/// Where the histories part: whose they are the lab knows, and where its source left a timeline that both were on its history file tells. The
/// inner error: why nobody could tell.
async fn parting(
    there: &Control,
    histories: &Pair,
    found: &Found,
    source: &Sample,
) -> Result<Result<Parting, String>, Failure> {
    Ok(match histories.parting(found.timeline, source.timeline) {
        Ok(Parting::Left(_)) => {
            let forks = there.forks(source.timeline).await?;
            Ok(Parting::Left(forks.into_iter().find(|(tl, _)| *tl == found.timeline).map(|(_, at)| at)))
        }
        known => known,
    })
}

/// What is put into a node's private place before its data directory is overwritten: what is under way there, and its own
/// settings, which may be nowhere else then.
fn beforehand(what: &str, own: &[Setting]) -> [NodeFile; 2] {
    [half_way(what), conf::kept_file(own)]
}

/// Says in the node's private place what is under way in its data directory; empty: nothing.
fn half_way(what: &str) -> NodeFile {
    NodeFile { place: Place::Private("half-way".to_owned()), text: what.to_owned() }
}

/// Whatever runs there stops: cleanly where it can.
async fn down<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName, steps: &mut Steps) -> Result<(), Failure> {
    if !lab.runtime.is_up(node).await? {
        return Ok(());
    }
    steps.node(node, "stop", "pg_ctl stop -m fast");
    if lab.runtime.stop(node, STOP_LIMIT).await.is_err() {
        steps.node(node, "kill", "kill -9: it did not stop in time");
        lab.runtime.kill(node).await?;
    }
    Ok(())
}

/// Looks into its folders: its own settings, and why its rows can't be read, if so.
async fn inside<R: Runtime>(lab: &Lab<R>, node: &NodeName) -> Result<(Vec<Setting>, Result<(), Failure>), Failure> {
    let (settings, mark) = (Place::Data("postgresql.auto.conf".to_owned()), half_way("").place);
    let (text, half) = try_join(lab.runtime.read(node, &settings), lab.runtime.read(node, &mark)).await?;
    let why = match (&text, half.filter(|half| !half.is_empty())) {
        (None, _) => "there is no database in it".to_owned(),
        (_, Some(half)) => format!("{half} failed half-way in it, so its rows can't be read any more"),
        (Some(text), None) => return Ok((conf::own_settings(text), Ok(()))),
    };
    // What is there may be its source's settings, or none.
    let kept = lab.runtime.read(node, &conf::kept_file(&[]).place).await?.or(text);
    Ok((kept.map(|t| conf::own_settings(&t)).unwrap_or_default(), Err(Failure(why))))
}

impl<R: Runtime> Return<'_, R> {
    /// Starts it cut off, as a standby of nobody, reads its rows, and stops it cleanly. What was found, or why nothing can be found there;
    /// an error says nothing of what is there.
    async fn count(&self, steps: &mut Steps) -> Result<Result<Found, Failure>, Failure> {
        let (lab, node) = (self.lab, self.node);
        lab.phase(Some(node), "counting, cut off").await;
        steps.note(format!("{node}: standby.signal without primary_conninfo, pg_hba.conf for the lab alone; started"));
        let read = self.read(&conf::cut_off_files(node, &lab.settings(), &self.own)).await;
        if lab.runtime.stop(node, STOP_LIMIT).await.is_err() {
            lab.runtime.kill(node).await?;
        }
        read
    }

    async fn read(&self, files: &[NodeFile]) -> Result<Result<Found, Failure>, Failure> {
        let (lab, node) = (self.lab, self.node);
        lab.runtime.start_to_rework(node, files).await?;
        lab.control(node)?.set_address(lab.runtime.control_address(node).await?).await;
        let own = match self.own_rows().await {
            Ok(own) => own,
            // A server that ended by itself has no rows to read.
            Err(why) if !lab.runtime.is_up(node).await? => return Ok(Err(why)),
            Err(why) => return Err(why),
        };
        let source = judge::rows(lab, self.source).await?;
        match (own, source) {
            (
                (sample, NodeReading::Rows { present: own, system_identifier, .. }),
                NodeReading::Rows { present: source, system_identifier: wanted, .. },
            ) if system_identifier == wanted => {
                Ok(Ok(Found { only: minus(&own, &source), timeline: sample.timeline, end: sample.wal }))
            }
            ((_, NodeReading::Rows { .. }), NodeReading::Rows { .. }) => {
                Ok(Err(Failure("it is another cluster: its system identifier differs".to_owned())))
            }
            ((_, NodeReading::Rows { .. }), _) => {
                Err(Failure(format!("the rows of {} could not be read", self.source)))
            }
            _ => Ok(Err(Failure("its rows could not be read".to_owned()))),
        }
    }

    async fn own_rows(&self) -> Result<(Sample, NodeReading), Failure> {
        faults::ready(self.lab, self.node, &self.lab.control(self.node)?).await?;
        let sample = self.until_still().await?;
        Ok((sample, judge::rows(self.lab, self.node).await?))
    }

    /// What is told where its rows could not be counted: it keeps them, and started by hand it is a standby like others.
    async fn not_counted(&self, why: &str) -> Result<Failure, Failure> {
        self.lab.runtime.put(self.node, &self.files()?).await?;
        Ok(self.kept_off(&format!("its rows could not be counted: {why}")))
    }

    /// All of its own log is replayed: it stands still.
    async fn until_still(&self) -> Result<Sample, Failure> {
        let control = self.lab.control(self.node)?;
        let mut last = control.sample().await?;
        let mut since = Instant::now();
        while since.elapsed() < STILL {
            sleep(STILL / 5).await;
            let now = control.sample().await?;
            if now.wal != last.wal {
                since = Instant::now();
            }
            last = now;
        }
        Ok(last)
    }

    /// The shortest way that leads there, or the one that was asked for.
    async fn travel(
        &self,
        found: &Result<Found, Failure>,
        parting: Result<Parting, String>,
        source: &Sample,
        way: Option<Way>,
        steps: &mut Steps,
    ) -> Result<(Road, Option<String>), Failure> {
        let detour = match (found, way) {
            (_, Some(Way::Rebuild)) => None,
            (Err(Failure(why)), None) => Some(why.clone()),
            (Err(Failure(why)), Some(Way::Rewind)) => return Err(self.kept_off(why)),
            (Ok(found), way) => {
                let parted = match parting {
                    Ok(Parting::Nowhere) => found.end > source.wal,
                    Ok(Parting::Left(at)) => at.is_none_or(|at| found.end > at),
                    Ok(Parting::Apart(_)) => true,
                    // Neither streaming nor pg_rewind can be trusted with it.
                    Err(why) if way.is_some() => return Err(self.kept_off(&why)),
                    Err(why) => return self.made_anew(Some(why), steps).await,
                };
                let road = if parted { Road::Rewound } else { Road::Straight };
                match self.walk(road, steps).await {
                    Ok(()) => return Ok((road, None)),
                    Err(Failure(why)) if way == Some(Way::Rewind) => {
                        let rows = format!("{} rows were only there; {why}", ledger::count(&found.only));
                        return Err(self.kept_off(&rows));
                    }
                    Err(Failure(why)) => Some(why),
                }
            }
        };
        self.made_anew(detour, steps).await
    }

    async fn made_anew(&self, detour: Option<String>, steps: &mut Steps) -> Result<(Road, Option<String>), Failure> {
        self.rebuild(steps).await?;
        Ok((Road::Rebuilt, detour))
    }

    /// It stays down, and even started it would be a standby.
    fn kept_off(&self, why: &str) -> Failure {
        Failure(format!("{why}; {0} stays down, `rejoin {0} rebuild` makes it anew", self.node))
    }

    /// Rewinds where that is needed, and lets it follow. Whatever fails, what is left behind is no primary.
    async fn walk(&self, road: Road, steps: &mut Steps) -> Result<(), Failure> {
        if road == Road::Rewound {
            self.lab.phase(Some(self.node), "pg_rewind").await;
            let before = beforehand("pg_rewind", &self.own).to_vec();
            let job = Job { before, after: self.made_whole()?, ..conf::rewind_job(&self.from) };
            steps.note(format!("{}: {} {}", self.node, job.program, job.args.join(" ")));
            let rewound = run_job(self.lab, self.node, &job).await;
            if rewound.is_err() {
                // It may have taken standby.signal away, and brought the source's settings, also where it failed half-way.
                self.lab.runtime.put(self.node, &self.files()?).await?;
            }
            rewound?;
        } else {
            self.lab.runtime.put(self.node, &self.files()?).await?;
        }
        let went = self.start(steps).await;
        if went.is_err() {
            down(self.lab, self.node, steps).await?;
        }
        went
    }

    fn files(&self) -> Result<Vec<NodeFile>, Failure> {
        let mut files = standby_files(self.lab, self.node, &self.from, &self.own)?;
        files.push(conf::hba_file());
        Ok(files)
    }

    /// Its files when nothing is half-way in it any more.
    fn made_whole(&self) -> Result<Vec<NodeFile>, Failure> {
        let mut files = self.files()?;
        files.push(half_way(""));
        Ok(files)
    }

    async fn rebuild(&self, steps: &mut Steps) -> Result<(), Failure> {
        self.lab.phase(Some(self.node), "pg_basebackup").await;
        // Its slot may have been lost while another way was tried.
        self.lab.control(self.source)?.create_slot(self.node.as_str()).await?;
        let (before, after) = (vec![conf::kept_file(&self.own)], self.made_whole()?);
        let job = Job { before, after, anew: true, ..conf::base_backup_job(&self.from) };
        steps.note(format!("{}: {} {}", self.node, job.program, job.args.join(" ")));
        if let Err(Failure(why)) = run_job(self.lab, self.node, &job).await {
            if !self.whole {
                return Err(Failure(why));
            }
            // It was made ready to be read by nobody but the lab: started, it shall be a standby like others.
            self.lab.runtime.put(self.node, &self.files()?).await?;
            return Err(Failure(format!("{why}; {} keeps the data that it had, and stays down", self.node)));
        }
        steps.note(format!("{}: the copy takes the place of its data directory", self.node));
        self.start(steps).await
    }

    /// Starts it as the standby that its files make it; it streams when this returns.
    async fn start(&self, steps: &mut Steps) -> Result<(), Failure> {
        let (lab, node) = (self.lab, self.node);
        lab.phase(Some(node), "starting").await;
        steps.note(format!(
            "{node}: standby.signal, its own name and settings, primary_conninfo to {}; started",
            self.source
        ));
        lab.runtime.start(node).await?;
        let control = lab.control(node)?;
        control.set_address(lab.runtime.control_address(node).await?).await;
        links::dial(lab, node).await?;
        faults::ready(lab, node, &control).await?;
        failover::until_followed(lab, node, self.source, STREAM_LIMIT).await?;
        self.same_timeline().await?;
        let old = lab.nodes().get_mut(node).and_then(|h| h.upstream.replace(self.source.clone()));
        if let Some(old) = old.filter(|o| o != self.source) {
            links::drop_link(lab, node, &old);
        }
        control.alter_system("wal_retrieve_retry_interval", None).await?;
        tidy_slots(lab, node).await
    }

    /// "Streaming" alone proves nothing right after a promotion (facts, "Speed": a rewind that did nothing streams for a moment).
    async fn same_timeline(&self) -> Result<(), Failure> {
        let wanted = self.lab.control(self.source)?.sample().await?.timeline;
        let end = Instant::now() + STREAM_LIMIT;
        loop {
            let sample = self.lab.control(self.node)?.sample().await?;
            if sample.timeline == wanted && sample.receiver.is_some_and(|r| r.status == "streaming") {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(Failure(self.astray(sample.timeline, wanted)));
            }
            sleep(STILL / 5).await;
        }
    }

    /// Why it isn't where it should be: it is on one timeline, and another is wanted.
    fn astray(&self, on: u32, wanted: u32) -> String {
        let (node, source) = (self.node, self.source);
        if on == wanted {
            format!("{node} is on {} and doesn't stream from {source}", self.histories.called(on))
        } else {
            format!(
                "{node} stays on {} and doesn't follow {source} to {}",
                self.histories.called(on),
                self.histories.called(wanted)
            )
        }
    }
}

/// A cleanly stopped primary whose successor has everything follows it as it is.
pub async fn follow_straight<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName, source: &NodeName) -> Result<(), Failure> {
    let (own, _) = inside(lab, node).await?;
    let own = conf::at_least(own, &lab.control(source)?.altered_limits().await?);
    let (from, histories) = (links::link(lab, node, source).await?, &Pair::default());
    let back = Return { lab, node, source, from, own, whole: true, histories };
    let mut unheard = Steps::new(lab.runtime.kind(), &lab.id);
    lab.runtime.put(node, &back.files()?).await?;
    let done = back.start(&mut unheard).await;
    lab.phase(Some(node), "").await;
    done
}

/// Slots of those who no longer follow it would hold back WAL for ever.
async fn tidy_slots<R: Runtime>(lab: &Arc<Lab<R>>, node: &NodeName) -> Result<(), Failure> {
    let control = lab.control(node)?;
    let slots: Vec<NodeName> = control.sample().await?.slots.iter().filter_map(|s| s.name.parse().ok()).collect();
    for slot in slots {
        let follows = lab.nodes().get(&slot).is_some_and(|h| h.upstream.as_ref() == Some(node));
        if !follows {
            drop_slot(&control, &slot).await?;
        }
    }
    Ok(())
}
