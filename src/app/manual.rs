//! The manual page: one for the program, with a section for each of its verbs.

use std::io;

use clap_mangen::Man;

use crate::cli;

/// The whole page, for `man`.
pub fn page() -> io::Result<String> {
    let definition = cli::definition();
    let mut page = Vec::new();
    let man = Man::new(definition.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for verb in definition.get_subcommands() {
        add_verb(&mut page, verb, "replab")?;
    }
    man.render_version_section(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// What a verb has by itself: the options of every verb are at the top.
fn add_verb(page: &mut Vec<u8>, verb: &clap::Command, above: &str) -> io::Result<()> {
    let name = format!("{above} {}", verb.get_name());
    if verb.has_subcommands() {
        return verb.get_subcommands().try_for_each(|one| add_verb(page, one, &name));
    }
    let has_options = verb.get_arguments().next().is_some();
    let man = Man::new(verb.clone().disable_help_flag(true).bin_name(&name));
    let mut text = Vec::new();
    man.render_description_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    if has_options {
        man.render_options_section(&mut text)?;
    }
    let text = String::from_utf8_lossy(&text).replace("\n.SH DESCRIPTION\n", "\n").replace("\n.SH ", "\n.SS ");
    page.extend(format!(".SH \"{}\"\n{text}", name.to_uppercase()).into_bytes());
    Ok(())
}
