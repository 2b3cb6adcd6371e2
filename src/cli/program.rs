//! The real program behind the command line: what the flags say, in the words of the composition root.
//!
//! May import: `app`, `backup` (what was restored), `config` (the overrides). Must never: decide anything; it only passes on.

use super::{CheckOptions, ExecuteOptions, Program, ServeOptions, Settings, TestOptions};
use crate::app;
use crate::backup::Restored;
use crate::config::Overrides;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The program as it is linked: the whole daemon.
#[derive(Debug)]
pub struct Daemon {
    /// The process's environment, which the config reads.
    pub variables: BTreeMap<String, String>,
}

fn overrides(settings: &Settings) -> Overrides {
    Overrides {
        listen: settings.listen_address.clone(),
        external_url: settings.external_url.clone(),
        storage_path: settings.storage_path.clone(),
        runbooks_dir: settings.runbooks_dir.clone(),
        web_config_file: settings.web_config_file.clone(),
        leave_programs: false,
    }
}

fn file(settings: &Settings) -> String {
    settings.file.to_string_lossy().into_owned()
}

impl Program for Daemon {
    fn serve(&self, options: ServeOptions) -> i32 {
        app::serve(app::ServeOptions {
            config_file: file(&options.settings),
            overrides: overrides(&options.settings),
            log_level: options.log_level,
            log_format: options.log_format,
            enable_lifecycle: options.enable_lifecycle,
            env: self.variables.clone(),
        })
    }

    fn check(&self, options: CheckOptions) -> i32 {
        let options = app::CheckOptions {
            config_file: file(&options.settings),
            overrides: overrides(&options.settings),
            env: self.variables.clone(),
        };
        app::check(&options, &mut std::io::stdout())
    }

    fn execute(&self, options: ExecuteOptions) -> i32 {
        let options = app::ExecuteOptions {
            runbook: options.runbook,
            labels: options.labels,
            annotations: options.annotations,
            env_vars: options.env,
            dry_run: options.dry_run,
            config_file: file(&options.settings),
            config_given: options.settings.file_given,
            overrides: overrides(&options.settings),
            env: self.variables.clone(),
        };
        app::execute(&options, &mut std::io::stdout(), &mut std::io::stderr())
    }

    fn test(&self, options: TestOptions) -> i32 {
        let options = app::TestOptions {
            files: options.files,
            coverage: options.coverage,
            json: options.json,
            config_file: file(&options.settings),
            overrides: overrides(&options.settings),
            env: self.variables.clone(),
        };
        app::test(&options, &mut std::io::stdout(), &mut std::io::stderr())
    }

    fn verify_audit(&self, storage: &Path) -> Result<serde_json::Value, String> {
        app::verify_audit(storage)
    }

    fn backup(&self, storage: &Path, out: &mut dyn Write) -> Result<(), String> {
        app::take_backup(storage, out)
    }

    fn restore(&self, file: &Path, storage: &Path) -> Result<Restored, String> {
        app::restore_backup(file, storage)
    }
}
