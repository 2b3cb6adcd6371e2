//! The program: its exit code.

fn main() {
    let mut options = runbookd::app::ServeOptions {
        config_file: "config/runbookd.toml".to_owned(),
        overrides: runbookd::config::Overrides::default(),
        log_level: "info".to_owned(),
        log_format: runbookd::telemetry::logging::Format::Json,
        enable_lifecycle: false,
        env: std::env::vars().collect(),
    };
    for arg in std::env::args().skip(2) {
        let (name, value) = arg.split_once('=').unwrap_or((arg.as_str(), ""));
        let value = value.to_owned();
        match name {
            "--config.file" => options.config_file = value,
            "--web.listen-address" => options.overrides.listen = Some(value),
            "--storage.path" => options.overrides.storage_path = Some(value),
            "--runbooks.dir" => options.overrides.runbooks_dir = Some(value),
            "--web.enable-lifecycle" => options.enable_lifecycle = true,
            "--log.level" => options.log_level = value,
            other => eprintln!("unknown {other}"),
        }
    }
    std::process::exit(runbookd::app::serve(options));
}
