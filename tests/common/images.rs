#![allow(dead_code, reason = "each test program uses its part")]
//! The engine and the images that tests use: built from Debian's packages when they aren't here. Without an engine a test
//! says that it is skipped; where `CI` is true that is a failure.

use replab::runtime::docker::{self, Engine, Image, ImageChoice, build_refusal};

/// The engine and the built image of this version, or None after saying why a test is skipped.
pub async fn ground_or_skip(major: u32) -> Option<(Engine, Image)> {
    match ground(major).await {
        Ok(ground) => Some(ground),
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("can't be tested: {why}"),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

/// Whether an image can't be built here, where that may be: not on CI.
pub fn no_builds() -> bool {
    let Some(why) = build_refusal(&ImageChoice::default()) else { return false };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "can't be tested: {why}");
    println!("skipped: {why}");
    true
}

async fn ground(major: u32) -> Result<(Engine, Image), String> {
    let told = |e: replab::runtime::RuntimeError| format!("{e} ({})", e.hint.as_deref().unwrap_or("no hint"));
    let engine = Engine::connect().await.map_err(told)?;
    let built = ImageChoice { explicit: Some(format!("replab/postgres:{major}")), major };
    if let Some(image) = docker::find_image(&engine, &built).await.map_err(told)? {
        return Ok((engine, image));
    }
    let (progress, mut phases) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(text) = phases.recv().await {
            println!("PostgreSQL {major}: {text}");
        }
    });
    let image = docker::build(&engine, &ImageChoice { explicit: None, major }, &progress).await.map_err(told)?;
    Ok((engine, image))
}
