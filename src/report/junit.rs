//! The report as JUnit's XML, as CI systems read it: a test case for each step, one for the bring-up, one for the verdict, and one
//! for a run that broke off.

use super::markup::Markup;
use super::{Report, StepReport};
use crate::model::Model;

/// What became of a test case.
enum Fate {
    Passed,
    Skipped(String),
    Failed { message: String, more: String },
    Error(String),
}

struct Case {
    name: String,
    seconds: f64,
    fate: Fate,
}

/// The whole file.
pub(super) fn page(report: &Report, model: &Model) -> String {
    let suite = report.scenario.as_deref().unwrap_or(if report.chaos.is_some() { "chaos" } else { "lab" });
    let cases = cases(report, model);
    let count = |is: fn(&Fate) -> bool| cases.iter().filter(|case| is(&case.fate)).count();
    let (failed, errors, skipped) = (
        count(|f| matches!(f, Fate::Failed { .. })),
        count(|f| matches!(f, Fate::Error(_))),
        count(|f| matches!(f, Fate::Skipped(_))),
    );
    let seconds = model.now.0 as f64 / 1e6;
    let mut page = Markup::beginning("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let totals: [super::markup::Attribute<'_>; 5] = [
        ("tests", &cases.len()),
        ("failures", &failed),
        ("errors", &errors),
        ("skipped", &skipped),
        ("time", &format!("{seconds:.3}")),
    ];
    page.open("testsuites", &[&[("name", &"replab" as &dyn std::fmt::Display)][..], &totals].concat());
    page.open("testsuite", &[&[("name", &suite as &dyn std::fmt::Display)][..], &totals].concat());
    properties(&mut page, report);
    for case in &cases {
        write(&mut page, suite, case);
    }
    page.leaf("system-out", &[], &super::sheet::journal(model).join("\n"));
    page.finish()
}

fn properties(page: &mut Markup, report: &Report) {
    let w = &report.writes;
    let all: [(&str, String); 10] = [
        ("replab", report.replab.clone()),
        ("postgres", report.postgres.clone()),
        ("runtime", report.runtime.clone()),
        ("verdict", report.verdict.clone()),
        ("writes.tried", w.tried.to_string()),
        ("writes.acked", w.acked.to_string()),
        ("writes.acked_with_warning", w.acked_with_warning.to_string()),
        ("writes.unknown", w.unknown.to_string()),
        ("writes.lost", w.lost.to_string()),
        ("writes.stranded", w.stranded.to_string()),
    ];
    page.open("properties", &[]);
    for (name, value) in all {
        page.empty("property", &[("name", &name), ("value", &value)]);
    }
    page.close();
}

fn cases(report: &Report, model: &Model) -> Vec<Case> {
    let error = report.error.clone().map(Fate::Error);
    let (unborn, broken_off) = if report.bring_up_ms.is_none() { (error, None) } else { (None, error) };
    let fate = unborn.unwrap_or(Fate::Passed);
    let bring_up = Case { name: "bring-up".to_owned(), seconds: seconds(report.bring_up_ms), fate };
    let run = broken_off.map(|fate| Case { name: "run".to_owned(), seconds: 0.0, fate });
    let steps = report.steps.iter().enumerate().map(|(n, step)| of_step(n, step));
    std::iter::once(bring_up)
        .chain(steps)
        .chain(unreached(report, model))
        .chain(rounds(report))
        .chain(run)
        .chain([verdict(report)])
        .collect()
}

fn seconds(ms: Option<u64>) -> f64 {
    ms.unwrap_or_default() as f64 / 1e3
}

fn of_step(n: usize, step: &StepReport) -> Case {
    // The evidence has what was logged at that moment.
    let fate = if step.ok { Fate::Passed } else { Fate::Failed { message: step.detail.clone(), more: String::new() } };
    Case { name: format!("{:02} {}: {}", n + 1, step.kind, step.name), seconds: seconds(Some(step.ms)), fate }
}

/// Steps after the one where the lesson ended.
fn unreached(report: &Report, model: &Model) -> Vec<Case> {
    let steps = model.lesson().into_iter().flat_map(|script| script.steps.iter().enumerate()).skip(report.steps.len());
    let case = |(n, step): (usize, &crate::model::script::Step)| Case {
        name: format!("{:02} {}: {}", n + 1, step.word(), step.name),
        seconds: 0.0,
        fate: Fate::Skipped("the lesson ended before this step".to_owned()),
    };
    steps.map(case).collect()
}

/// The rounds of chaos; what didn't hold belongs to the last one.
fn rounds(report: &Report) -> Vec<Case> {
    let Some(chaos) = &report.chaos else { return Vec::new() };
    let last = chaos.rounds.len();
    let case = |(n, round): (usize, &super::chaos::RoundReport)| {
        let why = chaos.failure.as_ref().filter(|_| n + 1 == last);
        let failed = |why: &String| Fate::Failed { message: why.clone(), more: round.line() };
        Case {
            name: format!("round {} of seed {}: {}", round.number, chaos.seed, round.kinds.join(", ")),
            seconds: seconds(round.whole_after_ms),
            fate: why.map_or(Fate::Passed, failed),
        }
    };
    chaos.rounds.iter().enumerate().map(case).collect()
}

fn verdict(report: &Report) -> Case {
    let found = report.findings.join("; ");
    let fate = match report.verdict.as_str() {
        "broken" => Fate::Failed { message: found, more: report.losses.clone() },
        "sound" => Fate::Passed,
        other => Fate::Skipped(format!("{other}: {found}")),
    };
    Case { name: "verdict".to_owned(), seconds: 0.0, fate }
}

fn write(page: &mut Markup, suite: &str, case: &Case) {
    let seconds = format!("{:.3}", case.seconds);
    page.open("testcase", &[("classname", &format!("replab.{suite}")), ("name", &case.name), ("time", &seconds)]);
    match &case.fate {
        Fate::Passed => {}
        Fate::Skipped(why) => drop(page.empty("skipped", &[("message", why)])),
        Fate::Error(why) => drop(page.leaf("error", &[("message", why), ("type", &case.name)], why)),
        Fate::Failed { message, more } => {
            let kind = if case.name == "verdict" { "promise" } else { "expectation" };
            page.leaf("failure", &[("message", message), ("type", &kind)], &format!("{message}\n{more}"));
        }
    }
    page.close();
}
