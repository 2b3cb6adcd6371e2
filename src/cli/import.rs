//! `import`: the config of another program becomes files of runbooks, and a part of ours on stdout.
//!
//! All of it or nothing: what is wrong with the config, or in the way of a file, is found before the first is written.
//! May import: `document`, `import`. Must never: overwrite a file.

use super::args::AmExecutor;
use super::escape::{visible, visible_lines};
use super::quit::{NO, Quit, YES};
use super::screen::Screen;
use super::validate;
use crate::document::Problems;
use crate::import;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

/// Writes the runbooks, and prints what belongs into the config; no when the config cannot be read.
pub(super) fn run(args: &AmExecutor, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let text = validate::read(&args.file)?;
    let told = |problems: &[_]| visible_lines(&Problems::render(problems, &text));
    let imported = match import::am_executor(&args.file.display().to_string(), &text) {
        Ok(imported) => imported,
        Err(problems) => {
            screen.message(&told(&problems));
            return Ok(NO);
        }
    };
    if !imported.warnings.is_empty() {
        screen.message(&told(&imported.warnings));
    }
    let files: Vec<(PathBuf, &str)> = imported
        .runbooks
        .iter()
        .map(|(id, text)| (args.out.join(format!("{id}.toml")), text.as_str()))
        .collect();
    if let Some((path, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        return Err(Quit::No {
            message: format!("{} is there already; nothing was written", path.display()),
            hint: "name another directory by --out".to_owned(),
        });
    }
    let cannot = |path: &PathBuf, cause| Quit::no(format!("{} cannot be written: {cause}", path.display()));
    fs::create_dir_all(&args.out).map_err(|cause| cannot(&args.out, cause))?;
    for (path, text) in &files {
        let written = File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|cause| cannot(path, cause))?;
        screen.message(&format!("wrote {}\n", visible(&path.display().to_string())));
    }
    // A file takes it as it is; a terminal would obey what is in it.
    let config = if screen.is_terminal() { visible_lines(&imported.config) } else { imported.config };
    screen.text(&config)?;
    Ok(YES)
}
