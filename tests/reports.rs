//! The report's forms: as they look, that no text can break out of them, and written by a real run.

mod common;

#[allow(dead_code, reason = "the screens' tests need all of them")]
#[path = "screens/models.rs"]
mod models;

use insta::assert_snapshot;
use proptest::prelude::*;
use replab::model::cluster::LogLine;
use replab::model::fault_log::FaultSpan;
use replab::model::history::Point;
use replab::model::journal::{Tone, Who};
use replab::model::script::{Question, Script, Step, StepKind, StepResult};
use replab::model::verdict::{Verdict, Verification};
use replab::model::{Logged, Model, Stamp};
use replab::report::chaos::{ActReport, ChaosReport, RoundReport};
use replab::report::{ENDINGS, Form, Report};
use roxmltree::{Document, Node, ParsingOptions};

use common::house::{Ground, House};

fn step(name: &str, kind: StepKind) -> Step {
    Step::new(name, kind)
}

fn result(ok: bool, ms: u64, detail: &str) -> StepResult {
    StepResult { ok, ms, detail: detail.into(), after: 1 }
}

/// A lesson that ended badly, with charts, a fault and logs; `text` stands wherever a server, a file or a person may put one.
fn model(text: &str) -> Model {
    let mut model = models::promoted();
    let steps = vec![
        step("say", StepKind::Say("# Read this".into())),
        step(text, StepKind::Expect { condition: "acked > 0".parse().unwrap(), within_ms: 0, during_ms: 0 }),
        step("wait", StepKind::Wait { condition: "state(s1) = frozen".parse().unwrap(), within_ms: 5_000 }),
        step("the rest", StepKind::Pause(1_000)),
    ];
    let mut script = Script::new("07-lesson", "A lesson", "What one sees", steps);
    let evidence = format!("state(s1) = frozen: is only running after 5003 ms; s1 logged last: LOG {text}");
    script.results =
        vec![result(true, 0, ""), result(true, 12, "acked > 0: is 48203"), result(false, 5_003, &evidence)];
    script.at = 4;
    model.script = Some(script);
    model.fault_log =
        vec![FaultSpan { kind: "down".into(), what: format!("p is down {text}"), from: Stamp(190_000_000), to: None }];
    let line = LogLine { severity: "LOG".into(), text: text.into() };
    model.nodes[1].logs.push_back(Logged { at: Stamp(191_500_000), line });
    models::tell(&mut model, 191.0, Who::Lab, Tone::Bad, text, &[text, "p: SELECT 1"]);
    for n in 0..8 {
        let stopped = (n == 5).then_some(());
        model.history.push(Point {
            at: Stamp(184_000_000 + n * 1_000_000),
            commits_per_s: 20.0 * n as f64,
            p50_us: stopped.is_none().then_some(900),
            p99_us: stopped.is_none().then_some(2_000 * n),
            oldest_us: 0,
            behind: vec![(models::name("s1"), 512 * n), (models::name("s2"), 0)],
        });
    }
    model
}

fn report(model: &Model) -> Report {
    Report { replab: "VERSION".into(), ..Report::of(model) }
}

fn text(form: Form, model: &Model) -> String {
    form.text(&report(model), model)
}

#[test]
fn every_form_looks_as_it_should() {
    let model = model("a <b> & \"c\" \x1b[31m|d|");
    assert_snapshot!("report_junit", text(Form::Junit, &model));
    assert_snapshot!("report_markdown", text(Form::Markdown, &model));
    assert_snapshot!("report_html", text(Form::Html, &model));
}

fn parsed(page: &str) -> Document<'_> {
    Document::parse_with_options(page, ParsingOptions { allow_dtd: true, ..ParsingOptions::default() })
        .unwrap_or_else(|e| panic!("{e}\n{page}"))
}

fn attribute<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    node.attribute(name).unwrap_or_default()
}

#[test]
fn junit_tells_what_failed_and_why() {
    let page = text(Form::Junit, &model("plain"));
    let document = parsed(&page);
    let suite = document.descendants().find(|n| n.has_tag_name("testsuite")).unwrap();
    let numbers = ["tests", "failures", "errors", "skipped"].map(|name| attribute(suite, name));
    assert_eq!(numbers, ["6", "1", "0", "1"]);
    let cases: Vec<Node<'_, '_>> = document.descendants().filter(|n| n.has_tag_name("testcase")).collect();
    assert_eq!(cases.len(), 6, "one for the bring-up, for each step and for the verdict");
    let failed = cases.iter().find(|n| attribute(**n, "name") == "03 wait: wait").unwrap();
    let failure = failed.first_element_child().unwrap();
    let said = failure.text().unwrap();
    assert!(attribute(failure, "message").contains("state(s1) = frozen: is only running after 5003 ms"));
    assert!(said.contains("s1 logged last: LOG"), "{said}");
    assert!(!said.contains("191.500s"), "that was logged later, at the end of the run: {said}");
}

#[test]
fn a_broken_promise_and_a_lab_that_did_not_start_fail_in_junit() {
    let mut broken = models::promoted();
    broken.verification.as_mut().unwrap().verdict = Verdict::Broken(vec!["7 writes".into()]);
    let page = text(Form::Junit, &broken);
    let failure =
        parsed(&page).descendants().find(|n| n.has_tag_name("failure")).map(|n| attribute(n, "message").to_owned());
    assert_eq!(failure.as_deref(), Some("7 writes"));
    let page = text(Form::Junit, &models::failed());
    let document = parsed(&page);
    let error = document.descendants().find(|n| n.has_tag_name("error")).unwrap();
    assert!(attribute(error, "message").contains("postgres:18 is not on this machine"));
    assert_eq!(attribute(error, "type"), "bring-up");
}

/// The bring-up went well: the error is the run's, in every form.
#[test]
fn a_run_that_broke_off_is_told_as_that() {
    let mut model = models::promoted();
    model.estranged = Some("p is another cluster now".into());
    let page = text(Form::Junit, &model);
    let document = parsed(&page);
    let error = document.descendants().find(|n| n.has_tag_name("error")).unwrap();
    assert_eq!((attribute(error, "message"), attribute(error, "type")), ("p is another cluster now", "run"));
    for form in [Form::Markdown, Form::Html] {
        assert!(text(form, &model).contains("the run broke off: p is another cluster now"), "{form:?}");
    }
}

/// The rows of the table of writes that speak of losses: what is in them, and whether they are marked as bad.
fn told_of_losses(change: impl FnOnce(&mut Verification)) -> Vec<(String, bool)> {
    let mut model = models::promoted();
    change(model.verification.as_mut().unwrap());
    let markdown = text(Form::Markdown, &model);
    let page = text(Form::Html, &model);
    let document = parsed(&page);
    let rows = document.descendants().filter(|n| n.has_tag_name("tr"));
    let cells = |row: Node<'_, '_>| -> Vec<String> {
        let cells = row.children().filter(|n| n.has_tag_name("td"));
        cells.map(|n| n.text().unwrap_or_default().trim().to_owned()).collect()
    };
    let told = |words: &str| words.starts_with("acknowledged, not") || words.starts_with("of those");
    let of_losses = rows.filter(|row| cells(*row).first().is_some_and(|words| told(words)));
    let told: Vec<(String, bool)> =
        of_losses.map(|row| (cells(row).join(": "), attribute(row, "class") == "bad")).collect();
    for (row, _) in &told {
        assert!(markdown.contains(&format!("| {} |", row.replace(": ", " | "))), "{row}\n{markdown}");
    }
    assert!(!page.contains("acknowledged, and lost"));
    told
}

/// Lost is said of what no node has any more, in red; of what is elsewhere, or may be on a node that wasn't read, it isn't.
#[test]
fn lost_is_said_only_of_what_is_gone() {
    let row = |words: &str, bad: bool| (words.to_owned(), bad);
    let (missing, stranded) = ("acknowledged, not on the primary", "of those, still on another node");
    assert_eq!(
        told_of_losses(|_| ()),
        [
            row(&format!("{missing}: 7"), false),
            row(&format!("{stranded}: 5"), false),
            row("of those, lost, on no node: 2", true)
        ]
    );
    assert_eq!(
        told_of_losses(|v| v.unread.push(models::name("s2"))),
        [row(&format!("{missing}: 7"), false), row(&format!("{stranded}: 5"), false)]
    );
    assert_eq!(told_of_losses(|v| v.stranded = 7)[2], row("of those, lost, on no node: 0", false));
}

#[test]
fn a_round_and_a_run_of_chaos_say_where_writes_are_missing() {
    let line = RoundReport { acked: 90, lost: 3, promised: 80, ..RoundReport::default() }.line();
    assert!(line.contains("90 acknowledged, 3 of them not on the primary") && !line.contains("lost"), "{line}");
}

#[test]
fn a_failed_round_of_chaos_is_in_every_form() {
    let model = models::loaded();
    let act = ActReport { at_ms: 2_000, command: "kill p".into(), ms: 30, outcome: "done".into(), why: None };
    let round = |number, verdict: &str| RoundReport {
        number,
        rule: "FIRST 1 (s1)".into(),
        level: "on".into(),
        kinds: vec!["kill".into()],
        acts: vec![act.clone()],
        verdict: Some(verdict.into()),
        ..RoundReport::default()
    };
    let chaos = ChaosReport {
        seed: 7,
        rounds: vec![round(1, "sound"), round(2, "broken")],
        failure: Some("round 2: the verdict is broken".into()),
        ..ChaosReport::default()
    };
    let report = Report { chaos: Some(chaos), ..report(&model) };
    for (_, form) in ENDINGS {
        let page = form.text(&report, &model);
        assert!(page.contains("the verdict is broken") && page.contains("kill p"), "{form:?}\n{page}");
    }
    let page = Form::Junit.text(&report, &model);
    let document = parsed(&page);
    let failed: Vec<&str> = document
        .descendants()
        .filter(|n| n.has_tag_name("failure"))
        .map(|n| attribute(n.parent_element().unwrap(), "name"))
        .collect();
    assert_eq!(failed, ["round 2 of seed 7: kill"]);
}

/// A report as it has always been, with one of everything that it may hold.
const WHOLE: &str = r#"{
    "report_version": 1, "replab": "0.1.0", "scenario": "07-lesson", "verdict": "sound", "findings": ["all is there"],
    "writes": {
        "tried": 9, "acked": 3, "acked_with_warning": 2, "failed": 1, "unknown": 1, "lost": 2, "stranded": 1
    },
    "expectations": {"passed": 1, "failed": 1},
    "bring_up_ms": 700, "postgres": "18.6", "runtime": "docker",
    "steps": [{"name": "acked > 0", "kind": "expect", "ok": true, "ms": 12, "detail": "is 3"}],
    "acked_ids": {"1": [[1, 5]]}, "lost_ids": {"1": [[4, 5]]}, "stranded_ids": {"1": [[4, 4]]}, "unknown_ids": {"2": [[1, 1]]},
    "losses": "2 lost",
    "faults": [{"kind": "down", "what": "p is down", "from_ms": 190000, "to_ms": null}],
    "timelines": [{"id": 2, "parent": 1, "fork": "0/3000148", "node": "s1", "at_ms": 191000}],
    "handovers": [{
        "kind": "failover", "cause": "refused", "old": "p", "new": "s1", "from": "fault",
        "detection_ms": 1.5, "election_ms": 2.5, "promotion_ms": 3.5, "first_ack_ms": 4.5, "repoint_ms": 5.5, "rto_ms": 12.0,
        "failed": null
    }],
    "rejoins": [{
        "node": "p", "at_ms": 195000, "road": "rewound", "detour": null, "fork": "0/3000148", "end": "0/30001A0",
        "thrown_away": {"1": [[4, 4]]}
    }],
    "read_at_ms": 199000,
    "nodes": [{"node": "s2", "rows": 0, "present": 0, "missing": 0, "unreadable": "refused"}],
    "sides": [{"node": "p", "only": {"1": [[4, 4]]}, "lost_if_it_loses": 1}],
    "chaos": {
        "seed": 7, "kinds": ["kill"], "standbys": 2, "for_ms": 60000, "within_ms": 10000,
        "rounds": [{
            "number": 1, "at_ms": 900, "primary": "p", "rule": "FIRST 1 (s1)", "level": "on", "kinds": ["kill"],
            "acts": [{"at_ms": 950, "command": "kill p", "ms": 30, "outcome": "done", "why": null}],
            "mends": [{"at_ms": 1950, "command": "heal", "ms": 40, "outcome": "failed", "why": "so"}],
            "whole_after_ms": 450, "rebuilt": false, "acked": 3, "lost": 0, "promised": 2, "verdict": "sound"
        }],
        "failure": null, "replay": "chaos-7.toml"
    },
    "error": null
}"#;

/// The names of all fields, at any depth; ids per client have none.
fn fields(value: &serde_json::Value) -> Vec<&str> {
    match value {
        serde_json::Value::Object(map) => {
            let named = map.iter().filter(|(name, _)| name.parse::<u32>().is_err());
            named.flat_map(|(name, inner)| [vec![name.as_str()], fields(inner)].concat()).collect()
        }
        serde_json::Value::Array(all) => all.iter().flat_map(fields).collect(),
        _ => Vec::new(),
    }
}

/// Programs read it: fields are added, never changed or taken away. Where this fails because of a new field, the field joins [`WHOLE`]
/// and docs/report-format.md.
#[test]
fn the_json_form_keeps_every_field_at_any_depth() {
    let told: serde_json::Value = serde_json::from_str(WHOLE).unwrap();
    let read: Report = serde_json::from_str(WHOLE).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), told);
    let page = include_str!("../docs/report-format.md");
    for field in fields(&told) {
        assert!(page.contains(&format!("`{field}`")), "docs/report-format.md doesn't tell of {field}");
    }
}

/// The elements of a page, in order: what a text must not change.
fn skeleton(page: &str) -> Vec<String> {
    parsed(page).descendants().filter(Node::is_element).map(|n| n.tag_name().name().to_owned()).collect()
}

proptest! {
    /// Whatever a server logs: the page is well-formed, has the same elements, holds no control character, and the text is in it.
    #[test]
    fn no_text_becomes_markup(evil in "(\\PC|[<>&\"'\\\\|`*_\\[\\]\\x00-\\x1f\\x7f\u{202e}\u{fffe}]|</td>|<!--|]]>|<script>){1,40}") {
        let (model, plain) = (model(&evil), model("plain"));
        for form in [Form::Junit, Form::Html] {
            let page = text(form, &model);
            prop_assert_eq!(skeleton(&page), skeleton(&text(form, &plain)));
            let bad = page.chars().find(|c| (c.is_control() && *c != '\n') || u32::from(*c) == 0x202e);
            prop_assert_eq!(bad, None);
        }
        let page = text(Form::Markdown, &model);
        prop_assert!(!page.contains('<') && !page.contains('>'));
        prop_assert_eq!(page.lines().count(), text(Form::Markdown, &plain).lines().count());
    }
}

/// A lesson writes markdown: its emphasis and code are shown as such, in its own texts and nowhere else.
#[test]
fn a_lessons_own_prose_is_rendered() {
    let mut model = model("**no** `emphasis` here");
    let question = Question { text: "Q".into(), choices: vec!["a".into(), "b".into()], answer: 0, why: "W".into() };
    if let Some(script) = &mut model.script {
        script.summary = "What *one* sees".into();
        script.steps[0] = step("**s1** will be `killed` & <b>gone</b>", StepKind::Ask(question));
    }
    let page = text(Form::Html, &model);
    assert!(page.contains("<strong>s1</strong> will be <code>killed</code> &amp; &lt;b&gt;gone&lt;/b&gt;"), "{page}");
    assert!(page.contains("What <em>one</em> sees") && page.contains(">**no** `emphasis` here<"), "{page}");
    let markdown = text(Form::Markdown, &model);
    assert!(markdown.contains("| **s1** will be `killed` &amp; &lt;b&gt;gone&lt;/b&gt; |"), "{markdown}");
    assert!(markdown.contains("| \\*\\*no\\*\\* \\`emphasis\\` here |"), "{markdown}");
}

/// What a browser would load from elsewhere, or run.
#[test]
fn the_page_needs_nothing_beside_it() {
    let page = text(Form::Html, &model("plain"));
    let document = parsed(&page);
    for node in document.descendants().filter(Node::is_element) {
        let name = node.tag_name().name();
        assert!(!["script", "link", "img", "iframe", "object", "embed", "base"].contains(&name), "{name}");
        for attribute in node.attributes() {
            assert!(
                !["src", "href"].contains(&attribute.name()) && !attribute.name().starts_with("on"),
                "{attribute:?}"
            );
        }
    }
    assert!(!page.contains("url(") && !page.contains("@import"));
    let charts = document.descendants().filter(|n| n.has_tag_name("figure")).count();
    assert_eq!(charts, 3, "lag, latency and throughput");
    let lines = document.descendants().filter(|n| n.has_tag_name("polyline"));
    assert!(lines.filter(|n| attribute(*n, "points").contains(' ')).count() >= 4);
}

/// A lesson played for real, all four forms at once; and replayed, the same again.
#[test]
fn a_real_run_writes_every_form() {
    let Some(house) = House::on(Ground::Process) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (recording, mut words) =
        (path("lesson.replab"), vec!["play".to_owned(), "01".to_owned(), "--headless".to_owned()]);
    words.extend(ENDINGS.iter().flat_map(|(ending, _)| ["--report".to_owned(), path(&format!("out.{ending}"))]));
    words.extend(["--record".to_owned(), recording.clone()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let played = house.replab(&words).output().unwrap();
    assert!(played.status.success(), "{played:?}");
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    let json: Report = serde_json::from_str(&read("out.json")).unwrap();
    let junit = read("out.xml");
    let cases = parsed(&junit).descendants().filter(|n| n.has_tag_name("testcase")).count();
    assert_eq!(cases, json.steps.len() + 2);
    assert!(!junit.contains("<failure"), "{junit}");
    let html = read("out.html");
    assert_eq!(parsed(&html).descendants().filter(|n| n.has_tag_name("figure")).count(), 3);
    assert!(html.contains("Verdict: sound") && read("out.md").contains("**Verdict: sound**"));

    let again = path("again.html");
    let replayed = house.replab(&["replay", &recording, "--headless", "--report", &again]).output().unwrap();
    assert!(replayed.status.success(), "{replayed:?}");
    assert_eq!(read("again.html"), html);
}
