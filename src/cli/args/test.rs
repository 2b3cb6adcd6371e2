//! The words of `test`.

use super::{ConfigFile, Overrides, RunbooksDir, Shape, settings};
use crate::cli::options::TestOptions;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(in crate::cli) struct Test {
    /// Files with tests, each beside its runbook [default: every *.test.toml in the directory of runbooks]
    #[arg(value_name = "FILES")]
    files: Vec<PathBuf>,
    /// Name every end of a step that no test has seen
    #[arg(long)]
    coverage: bool,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t = Shape::Table)]
    output: Shape,
    #[command(flatten)]
    pub(super) config: ConfigFile,
    #[command(flatten)]
    runbooks: RunbooksDir,
}

impl From<Test> for TestOptions {
    fn from(args: Test) -> Self {
        let over = Overrides {
            listen_address: None,
            web_config_file: None,
            external_url: None,
            storage_path: None,
            runbooks: args.runbooks,
        };
        let json = args.output == Shape::Json;
        let settings = settings(args.config, over);
        Self { settings, files: args.files, coverage: args.coverage, json }
    }
}
