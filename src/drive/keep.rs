//! The servers stay when replab goes: standbys follow their upstreams directly, because the relays go with replab.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use super::{Failure, Handle, Lab, replication};
use crate::model::NodeName;
use crate::pg::conf::Upstream;
use crate::pg::sql;
use crate::runtime::Runtime;

/// Ends everything of the lab but its servers. Gives the lines that say how to connect and how to remove them; `folder`
/// is where the file with the password goes.
pub async fn keep<R: Runtime>(lab: &Arc<Lab<R>>, folder: &Path) -> Result<Vec<String>, Failure> {
    lab.stop_writers().await;
    let nodes: Vec<(NodeName, Handle)> = lab.nodes().iter().map(|(n, h)| (n.clone(), h.clone())).collect();
    let mut lines = Vec::new();
    for (name, handle) in &nodes {
        if let Some(upstream) = &handle.upstream
            && let Err(Failure(why)) = repoint(lab, name, upstream).await
        {
            lines.push(format!("{name} could not be repointed to {upstream} and will not stream: {why}"));
        }
    }
    lab.end.cancel();
    let passfile = write_passfile(lab, folder)?;
    lines.push(format!("lab {} goes on without replab; connect with:", lab.id));
    for (name, handle) in &nodes {
        if let Ok(address) = lab.runtime.control_address(name).await {
            let (host, port, user) = (address.ip(), address.port(), sql::CONTROL_ROLE);
            let file = passfile.display();
            let role = handle.upstream.as_ref().map_or("follows nobody".to_owned(), |up| format!("follows {up}"));
            let database = sql::DATABASE;
            lines.push(format!("  PGPASSFILE={file} psql -h {host} -p {port} -U {user} {database}   # {name}, {role}"));
        }
    }
    lines.push("remove it with: replab clean".to_owned());
    lab.runtime.keep();
    Ok(lines)
}

async fn repoint<R: Runtime>(lab: &Arc<Lab<R>>, name: &NodeName, upstream: &NodeName) -> Result<(), Failure> {
    let (host, port) = lab.runtime.direct_address(upstream).await?;
    replication::point(lab, name, &Upstream::with_slot(host, port, name)).await.map(drop)
}

/// The control role's password, in a file that only its owner reads (manual 34.16).
fn write_passfile<R: Runtime>(lab: &Lab<R>, folder: &Path) -> io::Result<PathBuf> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("{}.pgpass", lab.id));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    writeln!(file, "127.0.0.1:*:*:{}:{}", sql::CONTROL_ROLE, lab.passwords.control.reveal())?;
    Ok(path)
}
