//! For tries by hand: prints a kubeconfig and serves until it is interrupted.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let out = args.next().unwrap_or_else(|| "kubeconfig".to_owned());
    let state_dir = args.next().map(Into::into);
    let options = paperclip_cluster::Options {
        persist: state_dir.is_some(),
        state_dir,
        listen: ([127, 0, 0, 1], 6789).into(),
        ..Default::default()
    };
    let cluster = paperclip_cluster::LocalCluster::start(options).await?;
    std::fs::write(&out, cluster.kubeconfig()?)?;
    println!("{} {} {out}", cluster.url(), cluster.token());
    tokio::signal::ctrl_c().await?;
    cluster.shutdown().await;
    Ok(())
}
