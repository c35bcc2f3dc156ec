// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests `vx report` in a headless Chromium: what the page shows compared with the records, filters, keyboard, untrusted names, many
//! files; and what the command refuses.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::browser::{Browser, ENTER, RIGHT, TAB};
use common::command::{detect, errors};
use common::{clip, root, scratch};
use serde_json::{Value, json};

fn report(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vx")).arg("report").args(arguments).output().unwrap()
}

fn refused(arguments: &[&str]) -> String {
    let output = report(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    errors(&output)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Opens a page; checks that it loads nothing else and that its script has nothing to complain about.
fn open(browser: &Browser, page: &Path) {
    browser.requests();
    browser.open(&url(page));
    assert_eq!(browser.requests(), [url(page)]);
    check_console(browser);
}

fn check_console(browser: &Browser) {
    let said = browser.console();
    assert!(said.is_empty(), "{said:?}");
}

/// Returns the figures at the top by name.
fn figures(browser: &Browser) -> Value {
    browser.run(
        "return Object.fromEntries([...document.querySelectorAll('#figures div')]
            .map((one) => [one.querySelector('dt').textContent, one.querySelector('dd').textContent]))",
    )
}

fn set(browser: &Browser, id: &str, value: &str) {
    browser.run(&format!(
        "const field = document.getElementById('{id}'); field.value = {};
         field.dispatchEvent(new Event('input', {{bubbles: true}}))",
        json!(value)
    ));
}

/// A run with saved pictures, its report made by `vx detect`: lines, pictures, page.
fn real_run(name: &str) -> [PathBuf; 3] {
    let folder = scratch(name);
    std::fs::create_dir_all(&folder).unwrap();
    let [output, pictures, page] = ["found.jsonl", "pictures", "report.html"].map(|name| folder.join(name));
    let clip = clip();
    let more =
        [clip.to_str().unwrap(), "--save-frames", pictures.to_str().unwrap(), "--report", page.to_str().unwrap()];
    let run = detect(&output, &more);
    assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
    let said = errors(&run);
    assert!(said.contains("8 files (1 failed, 0 damaged: the report has the reasons)"), "{said}");
    [output, pictures, page]
}

#[test]
fn the_page_shows_what_is_in_the_records() {
    let Some(browser) = Browser::start(1200, 900) else { return };
    let [output, pictures, page] = real_run("real");
    open(&browser, &page);

    // Counts, computed here from the lines.
    let lines = lines(&output);
    let summaries: Vec<&Value> = lines.iter().filter(|line| line["status"].is_string()).collect();
    let sum = |field: &str| summaries.iter().map(|summary| summary[field].as_u64().unwrap()).sum::<u64>();
    let with_detections = summaries.iter().filter(|summary| summary["detection_count"] != json!(0)).count();
    let events = Command::new(env!("CARGO_BIN_EXE_vx")).arg("events").arg(&output).output().unwrap().stdout;
    let events: Vec<Value> =
        String::from_utf8(events).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown = figures(&browser);
    assert_eq!(shown["files"], summaries.len().to_string());
    assert_eq!(shown["files with detections"], with_detections.to_string());
    assert_eq!(shown["frames analysed"], sum("keyframes").to_string());
    assert_eq!(shown["detections"], sum("detection_count").to_string());
    assert_eq!(shown["events"], events.len().to_string());
    assert_eq!((&shown["failed"], &shown["damaged"]), (&json!("1"), &json!("0")));
    let row = browser.text("#classes tbody tr");
    assert!(row.starts_with("person") && row.contains(&format!("{with_detections} {}", events.len())), "{row}");
    let bars = browser.run(
        "return [...document.querySelectorAll('#histogram span')].map((bar) => parseInt(bar.title.split(': ')[1]))
            .reduce((all, bar) => all + bar, 0)",
    );
    assert_eq!(bars, json!(sum("detection_count")));

    // Each file with detections has a lane, and its events have thumbnails that are decoded and links to saved pictures.
    assert_eq!(browser.count("#list article"), with_detections);
    assert_eq!(browser.count("#list .track"), with_detections);
    let thumbnails = browser.count("#list .thumbnail img");
    assert_eq!(thumbnails, events.len());
    browser.wait_for(
        "return [...document.images].every((image) => { image.loading = 'eager'; return image.complete && image.naturalWidth > 99; })",
    );
    let links = browser.run("return [...document.querySelectorAll('#list a.thumbnail')].map((link) => link.href)");
    let saved: BTreeSet<String> =
        links.as_array().unwrap().iter().map(|link| link.as_str().unwrap().to_owned()).collect();
    assert_eq!(saved.len(), events.len());
    let canonical = url(&pictures);
    assert!(saved.iter().all(|link| link.starts_with(&canonical) && link.ends_with(".jpg")), "{saved:?}");
    assert!(saved.iter().all(|link| Path::new(link.strip_prefix("file://").unwrap()).is_file()), "{saved:?}");
    let times = browser.run(
        "return [...document.querySelectorAll('.events li > a:not(.thumbnail)')].map((link) => [link.textContent, link.href])
            .find(([, href]) => href.includes('scenes.mp4'))",
    );
    let long = events.iter().find(|event| event["file"].as_str().unwrap().ends_with("scenes.mp4")).unwrap();
    let (start, end) = (long["start_seconds"].as_f64().unwrap(), long["end_seconds"].as_f64().unwrap());
    assert_eq!(times[0], format!("0:{start:02} to 0:{end:02}"));
    assert_eq!(times[1], url(&clip()) + &if start > 0.0 { format!("#t={start}") } else { String::new() });

    // The failed file with its reason.
    let failed = summaries.iter().find(|summary| summary["status"] == "failed").unwrap();
    let reason = failed["error"]["message"].as_str().unwrap();
    assert!(browser.text("#problems").contains(reason), "{}", browser.text("#problems"));
    browser.click("#problems td button");
    assert_eq!(browser.count("#list article"), 1);
    let card = browser.text("#list article");
    assert!(card.starts_with("notes.mp4") && card.contains(&format!("Failed: {reason}")), "{card}");
    assert!(browser.text("#result").contains(reason));
    browser.click("#clear");
    assert_eq!(browser.count("#list article"), with_detections);
    check_console(&browser);
    assert!(browser.requests().is_empty());
}

#[test]
fn filters_answer_to_mouse_and_keyboard() {
    let Some(browser) = Browser::start(1200, 900) else { return };
    let path = scratch("filters.jsonl");
    let confidence = |file: u32| 0.3 + 0.1 * f64::from(file);
    let text: String = (0..6)
        .map(|file| {
            let label = if file % 2 == 0 { "person" } else { "dog" };
            lines_of(
                &format!("/nowhere/camera {file}.mp4"),
                &[(0.0, label, confidence(file)), (2.0, label, 0.26)],
                None,
            )
        })
        .collect();
    std::fs::write(&path, text).unwrap();
    let page = scratch("filters.html");
    let made = report(&[path.to_str().unwrap(), "--output", page.to_str().unwrap()]);
    assert!(made.status.success(), "{}", errors(&made));
    open(&browser, &page);
    let shown = |browser: &Browser| {
        let names = browser
            .run("return [...document.querySelectorAll('#list h3')].map((title) => title.textContent.match(/\\d/)[0])");
        names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect::<String>()
    };
    assert_eq!(shown(&browser), "012345");

    // By class, with the mouse; the histogram follows.
    browser.click("#classes [data-class='1']");
    assert_eq!(shown(&browser), "135");
    assert!(
        browser
            .run("return document.getElementById('histogram').getAttribute('aria-label')")
            .as_str()
            .unwrap()
            .contains("6 detections")
    );
    browser.click("#classes [data-class='1']");

    // By the name, typed.
    browser.type_into("#name", "CAMERA 4");
    assert_eq!(shown(&browser), "4");
    assert!(browser.text("#result").starts_with("1 of 6 files, 1 event"), "{}", browser.text("#result"));
    browser.click("#clear");
    assert_eq!(browser.run("return document.getElementById('name').value"), json!(""));

    // By confidence, with keys: twelve steps of 0.05 from 0 are 0.6.
    browser.run("document.getElementById('confidence').focus()");
    browser.press(&RIGHT.repeat(12));
    assert_eq!(browser.text("#confidence-value"), "0.60");
    assert_eq!(shown(&browser), "345");
    set(&browser, "sort", "confidence");
    assert_eq!(shown(&browser), "543");
    set(&browser, "show", "empty");
    assert_eq!(shown(&browser), "012");
    browser.click("#clear");

    // Without a mouse: the first stop is the link to the files, which moves the focus there.
    browser.open(&url(&page));
    browser.press(TAB);
    assert_eq!(browser.run("return document.activeElement.textContent"), json!("Skip to the files"));
    browser.press(ENTER);
    assert_eq!(browser.run("return document.activeElement.id"), json!("files-title"));
    browser.press(TAB);
    assert_eq!(browser.run("return document.activeElement.id"), json!("name"));
    // Back at the top, a class is selected by key, and keeps the focus.
    browser.run("document.querySelector('#classes [data-class=\"0\"]').focus()");
    browser.press(" ");
    assert_eq!(shown(&browser), "024");
    assert_eq!(browser.run("return document.activeElement.getAttribute('aria-pressed')"), json!("true"));
    browser.press(ENTER);
    assert_eq!(shown(&browser), "012345");
    check_console(&browser);
}

#[test]
fn the_page_can_be_used_with_a_screen_reader_on_a_phone_in_the_dark_and_on_paper() {
    let Some(browser) = Browser::start(400, 800) else { return };
    let [_, _, page] = real_run("access");
    open(&browser, &page);
    // Landmarks, one heading of the first level, levels without gaps.
    for landmark in ["header", "main", "nav[aria-label]", "footer", "form[role=search]", "[role=status]"] {
        assert_eq!(browser.count(landmark), 1, "{landmark}");
    }
    let levels =
        browser.run("return [...document.querySelectorAll('h1,h2,h3')].map((title) => Number(title.tagName[1]))");
    let levels: Vec<i64> = levels.as_array().unwrap().iter().map(|level| level.as_i64().unwrap()).collect();
    assert!(levels[0] == 1 && levels.windows(2).all(|pair| pair[1] > 1 && pair[1] - pair[0] <= 1), "{levels:?}");
    // The browser's own accessibility tree: nothing that can be used is without a name.
    let unnamed = browser.run(
        "return [...document.querySelectorAll('a[href]:not([tabindex=\"-1\"]), button, input, select, img, [role=img], section, article')]
            .filter((one) => !one.hidden && !(one.ariaLabel || one.alt || one.labels?.length || one.innerText?.trim()
                || one.querySelector('img')?.alt
                || document.getElementById(one.getAttribute('aria-labelledby'))))
            .map((one) => one.outerHTML.slice(0, 99))",
    );
    assert_eq!(unnamed, json!([]));
    let ids = browser.run("const ids = [...document.querySelectorAll('[id]')].map((one) => one.id); return ids.length - new Set(ids).size");
    assert_eq!(ids, json!(0));
    // Nothing is wider than the screen of a phone.
    let overflow = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(overflow, json!(0));
    // Text stands out from its background by the 4.5 to 1 of WCAG in both schemes.
    let mut backgrounds = BTreeSet::new();
    for scheme in ["light", "dark"] {
        browser.emulate("prefers-color-scheme", scheme);
        let poor = browser.run(CONTRAST);
        assert_eq!(poor, json!([]), "{scheme}");
        backgrounds.insert(browser.run("return getComputedStyle(document.body).backgroundColor").to_string());
    }
    assert_eq!(backgrounds.len(), 2);
    // A PDF of some pages with pictures.
    assert!(browser.print().len() > 20_000);
    check_console(&browser);
}

/// Returns the texts whose contrast with their background is below 4.5 (w3.org/TR/WCAG21, 1.4.3).
const CONTRAST: &str = r"
    const channel = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = (colour) => {
        const [red, green, blue] = numbers(colour).map((value) => channel(value / 255));
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const isClear = (colour) => numbers(colour)[3] === 0;
    const ground = (one) => {
        while (one && isClear(getComputedStyle(one).backgroundColor)) one = one.parentElement;
        return getComputedStyle(one ?? document.body).backgroundColor;
    };
    const texts = [...document.querySelectorAll('p, dt, dd, td, th, label, h1, h2, h3, li, bdi, a, button, span, select')]
        .filter((one) => one.innerText?.trim() && !one.disabled);
    return texts.filter((one) => {
        const [high, low] = [light(getComputedStyle(one).color), light(ground(one))].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05) < 4.5;
    }).map((one) => one.outerHTML.slice(0, 80));
";

/// Returns the lines of a file with a detection on each of these frames (seconds, label, confidence).
fn lines_of(file: &str, frames: &[(f64, &str, f64)], error: Option<&str>) -> String {
    let frame = |(seconds, label, confidence): &(f64, &str, f64)| {
        let found = json!({"label": label, "class_id": 0, "confidence": confidence, "box": [1.0, 2.0, 30.0, 40.0]});
        let pts_ns = (seconds * 1e9) as i64;
        json!({"schema": 2, "file": file, "pts_ns": pts_ns, "width": 64, "height": 48, "detections": [found]})
    };
    let stages = ["total", "open", "lock_wait", "lock_hold", "read", "decode", "queued", "prepare", "infer"];
    let seconds: Value =
        stages.iter().map(|stage| ((*stage).to_owned(), json!(0.0))).collect::<serde_json::Map<_, _>>().into();
    let summary = json!({
        "schema": 2, "file": file, "status": if error.is_some() { "failed" } else { "ok" }, "complete": error.is_none(),
        "keyframes": frames.len(), "indexed_keyframes": null, "frames_between": 0, "damaged_frames": 0,
        "detection_count": frames.len(), "duration_seconds": 60.0, "covered_seconds": 2.0, "bytes": 9, "bytes_read": 9,
        "seconds": seconds, "error": error.map(|message| json!({"domain": "gst", "code": 1, "message": message})),
    });
    frames.iter().map(frame).chain([summary]).map(|line| format!("{line}\n")).collect()
}

#[test]
fn names_and_labels_from_outside_are_only_text() {
    let Some(browser) = Browser::start(1000, 800) else { return };
    let attack = "</script><script>window.hacked = 1</script><img src=x onerror='hacked = 1'>\"'&lt; {{script}} <!--";
    let label = "<b onclick=hacked=1>\u{202e}dog</b>\u{7}";
    let reason = "<iframe src=https://example.org></iframe>";
    let path = scratch("attack.jsonl");
    let files = [
        lines_of(&format!("/tmp/{attack}.mp4"), &[(1.0, label, 0.9), (2.0, "שלום", 0.9)], None),
        lines_of("javascript:alert(1)", &[(1.0, label, 0.9)], None),
        lines_of("https://example.org/?a=\"><img src=x>", &[(1.0, label, 0.9)], None),
        lines_of("קובץ.mp4", &[], Some(reason)),
    ];
    std::fs::write(&path, files.concat()).unwrap();
    let page = scratch("attack.html");
    let made = report(&[path.to_str().unwrap(), "--output", page.to_str().unwrap()]);
    assert!(made.status.success(), "{}", errors(&made));
    open(&browser, &page);
    set(&browser, "show", "all");
    assert_eq!(browser.count("article"), 4);
    // The name is shown before its folder, and this one has a slash in it.
    let (_, name) = attack.rsplit_once('/').unwrap();
    assert!(browser.text("#list").contains(name), "{}", browser.text("#list"));
    assert!(browser.text("#classes").contains("<b onclick=hacked=1>\\u{202e}dog</b>\\u{7}"));
    assert!(browser.text("#problems").contains(reason));
    assert_eq!(browser.run("return window.hacked ?? null"), Value::Null);
    assert_eq!(
        (browser.count("script"), browser.count("iframe"), browser.count("b"), browser.count("img")),
        (2, 0, 0, 0)
    );
    let links = browser
        .run("return [...document.links].map((link) => link.href).filter((link) => !link.includes('#files-title'))");
    let links: Vec<&str> = links.as_array().unwrap().iter().map(|link| link.as_str().unwrap()).collect();
    assert!(!links.is_empty() && links.iter().all(|link| link.starts_with("https://example.org/?a=")), "{links:?}");
    // The policy of the page stops what would be loaded or run.
    browser.run("const one = document.createElement('script'); one.textContent = 'window.hacked = 2'; document.body.append(one)");
    browser.run("fetch('http://127.0.0.1:9/').catch(() => 0); new Image().src = 'http://127.0.0.1:9/'");
    assert_eq!(browser.run("return window.hacked ?? null"), Value::Null);
    assert!(browser.console().iter().any(|said| said.contains("Content Security Policy")));
}

#[test]
fn two_thousand_files_stay_light() {
    let Some(browser) = Browser::start(1200, 900) else { return };
    let labels = ["person", "car", "dog", "bicycle", "truck"];
    let path = scratch("many.jsonl");
    let text: String = (0..2000_u32)
        .map(|file| {
            let frames: Vec<(f64, &str, f64)> = (0..60)
                .filter(|frame| frame % 6 < 4)
                .map(|frame| {
                    (f64::from(frame), labels[((frame / 6 + file) % 5) as usize], 0.3 + 0.001 * f64::from(file % 600))
                })
                .collect();
            let error = (file % 100 == 7).then(|| format!("damaged at byte {file}"));
            let frames = if error.is_some() || file % 4 == 3 { &[][..] } else { &frames };
            lines_of(&format!("/recordings/camera {}/{file:04}.mp4", file % 7), frames, error.as_deref())
        })
        .collect();
    std::fs::write(&path, &text).unwrap();
    let page = scratch("many.html");
    let made = report(&[path.to_str().unwrap(), "--output", page.to_str().unwrap(), "--gap", "2s"]);
    assert!(made.status.success(), "{}", errors(&made));
    // None of the files exists, so there are no thumbnails, which is said once for all of them.
    assert!(errors(&made).contains("no picture  992 more files"), "{}", errors(&made));
    let bytes = std::fs::metadata(&page).unwrap().len();
    assert!(bytes < 10_000_000, "{bytes}");
    open(&browser, &page);
    let shown = figures(&browser);
    // Of each hundred files one failed and 25 have no detections, one of which is the failed one.
    assert_eq!((&shown["files"], &shown["failed"]), (&json!("2,000"), &json!("20")));
    assert_eq!(shown["files with detections"], json!("1,500"));
    assert_eq!(shown["events"], json!("15,000"));
    let elements = || browser.count("*");
    assert!(elements() < 4000, "{}", elements());
    assert_eq!(browser.count("#list article"), 25);
    // All failures are of one kind.
    assert_eq!(browser.count("#problems tbody tr"), 1);
    assert!(browser.text("#problems tbody").contains("failed damaged at byte …"));

    assert_eq!(browser.text("#page"), "Page 1 of 60");
    browser.click("#next");
    assert_eq!(browser.text("#page"), "Page 2 of 60");
    assert!(browser.text("#result").contains("26 to 50 on this page"), "{}", browser.text("#result"));
    assert_eq!(browser.run("return document.activeElement.id"), json!("files-title"));
    assert!(browser.text("#list h3").starts_with("0033.mp4"), "{}", browser.text("#list h3"));
    browser.type_into("#name", "camera 3/");
    // Files 3, 10, 17, … without those whose number leaves 3 when divided by 4.
    let expected = (0..2000).filter(|file| file % 7 == 3 && file % 4 != 3).count();
    assert!(browser.text("#result").starts_with(&format!("{expected} of 2,000 files")), "{}", browser.text("#result"));
    browser.click("#classes [data-class='0']");
    assert!(browser.text("#result").starts_with(&format!("{expected} of 2,000 files, {} events", 2 * expected)));
    browser.click("#clear");
    set(&browser, "size", "500");
    assert_eq!(browser.count("#list article"), 500);
    set(&browser, "show", "bad");
    assert!(browser.text("#result").starts_with("20 of 2,000 files"));
    check_console(&browser);
}

#[test]
fn thumbnails_are_decoded_on_demand_and_limited() {
    let found = scratch("thumbnails.parquet");
    let run = detect(&found, &[clip().to_str().unwrap(), "--quiet"]);
    assert_eq!(run.status.code(), Some(1), "{}", errors(&run));
    let page = scratch("thumbnails.html");
    let thumbnails = |more: &[&str]| {
        let made = report(&[&[found.to_str().unwrap(), "--output", page.to_str().unwrap()], more].concat());
        assert!(made.status.success(), "{}", errors(&made));
        let text = std::fs::read_to_string(&page).unwrap();
        let data = text.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
        let data: Value = serde_json::from_str(data).unwrap();
        (data["thumbnails"].as_array().unwrap().len(), data["files"].clone(), text.len())
    };
    let (all, files, long) = thumbnails(&[]);
    let events = files.as_array().unwrap().iter().map(|file| file["events"].as_array().unwrap().len()).sum::<usize>();
    assert!(all > 1 && all == events, "{all} of {events}");
    let (none, _, short) = thumbnails(&["--thumbnails", "none"]);
    assert!(none == 0 && short < long);
    assert_eq!(thumbnails(&["--thumbnails", "2"]).0, 2);
}

#[test]
fn wrong_inputs_and_outputs_are_refused() {
    let found = scratch("refusals.jsonl");
    let text = lines_of("a.mp4", &[(0.0, "person", 0.5), (1.0, "person", 0.5)], None);
    std::fs::write(&found, &text).unwrap();
    let found = found.to_str().unwrap();
    let page = scratch("refusals.html");
    let page_name = page.to_str().unwrap();
    assert!(refused(&["/nowhere.jsonl", "-o", page_name]).contains("/nowhere.jsonl: No such file"));
    let damaged = scratch("damaged.jsonl");
    std::fs::write(&damaged, text.replacen("1000000000", "1000000000,", 1)).unwrap();
    assert!(refused(&[damaged.to_str().unwrap(), "-o", page_name]).contains("line 2 is damaged"));
    std::fs::write(&damaged, &text[..text.len() - 9]).unwrap();
    assert!(refused(&[damaged.to_str().unwrap(), "-o", page_name]).contains("line 3 is cut off"));
    assert!(!page.exists());
    // Other files are not replaced, reports are.
    std::fs::write(&page, "<!doctype html>mine").unwrap();
    assert!(refused(&[found, "-o", page_name]).contains("is not a report of vx"));
    assert_eq!(std::fs::read_to_string(&page).unwrap(), "<!doctype html>mine");
    std::fs::remove_file(&page).unwrap();
    for _ in 0..2 {
        let made = report(&[found, "-o", page_name]);
        assert!(made.status.success(), "{}", errors(&made));
    }
    assert!(refused(&[found, "-o", "/nowhere/report.html"]).contains("/nowhere is not a folder"));
    // Before a run, not after it.
    let unwanted = root().join("Cargo.toml");
    let output = scratch("before.jsonl");
    let run = detect(&output, &["--report", unwanted.to_str().unwrap()]);
    assert!(run.status.code() == Some(2) && errors(&run).contains("is not a report of vx") && !output.exists());
    let run = common::command::vx(&["clip.mp4", "--report", page_name]).output().unwrap();
    assert!(run.status.code() == Some(2) && errors(&run).contains("--output"), "{}", errors(&run));
}

#[test]
fn a_resumed_run_reports_on_all_of_its_output() {
    let folder = scratch("resumed");
    std::fs::create_dir_all(&folder).unwrap();
    let clip = clip();
    let [output, page] = ["found.csv", "report.html"].map(|name| folder.join(name).display().to_string());
    let run = |inputs: &[&str], more: &[&str]| {
        let fixed = ["--output", &output, "--report", &page, "--provider", "cpu"];
        let run = common::command::vx(&[inputs, &fixed[..], more].concat()).output().unwrap();
        assert!(run.status.success(), "{}", errors(&run));
        errors(&run)
    };
    let said = run(&[clip.to_str().unwrap()], &[]);
    assert!(said.contains(&format!("report      {page}: 1 file, ")), "{said}");
    let copy = folder.join("copy.mp4");
    std::fs::copy(&clip, &copy).unwrap();
    let said = run(&[clip.to_str().unwrap(), copy.to_str().unwrap()], &["--resume"]);
    assert!(said.contains(&format!("report      {page}: 2 files, ")), "{said}");
}
