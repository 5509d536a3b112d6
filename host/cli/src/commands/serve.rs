//! `serve`: runs the daemon.

use paperclip_daemon::Daemon;
use paperclip_prepare::plugins::BuiltinPlugins;
use paperclip_prepare::token;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::ServeArgs;
use crate::exit::{CommandError, Exit, usage};

pub(crate) async fn serve(args: ServeArgs, builtins: BuiltinPlugins) -> Result<Exit, CommandError> {
    let config = args.configuration().map_err(usage)?;
    for file in [&config.token_file, &config.admin_token_file].into_iter().flatten() {
        token::read(file).map_err(usage)?;
    }
    if args.check_config {
        let addresses: Vec<String> = config.addresses().iter().map(ToString::to_string).collect();
        println!("good: listens on {}", addresses.join(", "));
        return Ok(Exit::Succeeded);
    }
    if args.print_config {
        print!("{}", config.print().map_err(std::io::Error::other)?);
        return Ok(Exit::Succeeded);
    }
    crate::start_logging(config.log.level.into(), config.log.format);
    let daemon = Daemon::open(config, builtins).await.map_err(usage)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    daemon
        .run(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
        .await;
    Ok(Exit::Succeeded)
}
