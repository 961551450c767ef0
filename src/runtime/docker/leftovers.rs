//! What labs left on an engine, and removing it. Everything is looked at once more before it is touched, by its exact id.

use bollard::Docker;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptionsBuilder, RemoveImageOptionsBuilder,
};

use super::connect::Engine;
use super::failure::{self, plain};
use super::labels::{self, Labels};
use super::{network, wait};
use crate::runtime::{Leftover, Owner, Result};

const CONTAINER: &str = "container";
const NETWORK: &str = "network";
const TEMPLATE_IMAGE: &str = "template image";

/// The containers and networks of all labs; containers come first, because a network in use can't be removed. Labs have
/// no volumes. `alive` says whether an owner still lives.
pub async fn leftovers(engine: &Engine, alive: impl Fn(&Owner) -> bool) -> Result<Vec<Leftover>> {
    let docker = &engine.docker;
    let (nodes, makers, networks) =
        tokio::try_join!(containers(docker, labels::LAB), containers(docker, labels::MAKER), networks(docker))?;
    // Nodes inherit a blank maker's label from their image.
    let makers = makers.into_iter().filter(|(.., labels)| labels::filled(labels, labels::MAKER).is_some());
    let containers = nodes.into_iter().chain(makers).map(|(id, name, labels)| (CONTAINER, id, name, labels));
    let networks = networks.into_iter().map(|(id, name, labels)| (NETWORK, id, name, labels));
    let ours = containers.chain(networks).filter(|(.., labels)| labels::is_ours(labels));
    Ok(ours.map(|(kind, id, name, labels)| leftover(kind, id, name, &labels, &alive)).collect())
}

/// The template images: a cache that all labs share.
pub async fn templates(engine: &Engine) -> Result<Vec<Leftover>> {
    let filters = labels::filter(labels::TEMPLATE);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let found = engine.docker.list_images(Some(options)).await;
    let found = found.map_err(|err| failure::engine("list images", &err))?;
    let told = found.into_iter().map(|image| {
        let name = image.repo_tags.first().cloned().unwrap_or_else(|| "(without a name)".to_owned());
        Leftover { kind: TEMPLATE_IMAGE.to_owned(), id: image.id, name, owner: None, alive: false }
    });
    Ok(told.collect())
}

/// Removes one leftover. Gone already is fine; what doesn't carry replab's label is refused.
pub async fn remove(engine: &Engine, leftover: &Leftover) -> Result<()> {
    let docker = &engine.docker;
    match leftover.kind.as_str() {
        CONTAINER => container(docker, &leftover.id, labels::is_ours).await,
        NETWORK => network::remove(docker, &leftover.id, labels::is_ours).await,
        TEMPLATE_IMAGE => template_image(docker, &leftover.id).await,
        kind => Err(plain(format!("remove {}", leftover.name), format!("a {kind} is nothing of Docker's"))),
    }
}

/// Removes all of one lab: containers first, at the same time, then networks.
pub(super) async fn remove_lab(docker: &Docker, lab: &str) -> Result<()> {
    let ours = |labels: &Labels| labels::filled(labels, labels::LAB) == Some(lab);
    let found = containers(docker, &format!("{}={lab}", labels::LAB)).await?;
    let removals = found.iter().map(|(id, ..)| container(docker, id, ours));
    let removed: Vec<Result<()>> = futures_util::future::join_all(removals).await;
    for id in network::of_lab(docker, lab).await? {
        network::remove(docker, &id, ours).await?;
    }
    removed.into_iter().collect()
}

type Found = (String, String, Labels);

async fn containers(docker: &Docker, label: &str) -> Result<Vec<Found>> {
    let filters = labels::filter(label);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = docker.list_containers(Some(options)).await;
    let found = found.map_err(|err| failure::engine("list containers", &err))?;
    let told = found.into_iter().filter_map(|container| {
        let name = container.names.unwrap_or_default().into_iter().next().unwrap_or_default();
        Some((container.id?, name.trim_start_matches('/').to_owned(), container.labels.unwrap_or_default()))
    });
    Ok(told.collect())
}

async fn networks(docker: &Docker) -> Result<Vec<Found>> {
    let filters = labels::filter(labels::LAB);
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let found = docker.list_networks(Some(options)).await;
    let found = found.map_err(|err| failure::engine("list networks", &err))?;
    let told = found.into_iter().filter_map(|network| {
        Some((network.id?, network.name.unwrap_or_default(), network.labels.unwrap_or_default()))
    });
    Ok(told.collect())
}

fn leftover(kind: &str, id: String, name: String, labels: &Labels, alive: impl Fn(&Owner) -> bool) -> Leftover {
    let owner = labels::owner_of(labels);
    let alive = owner.as_ref().is_some_and(alive);
    Leftover { kind: kind.to_owned(), id, name, owner, alive }
}

async fn container(docker: &Docker, id: &str, ours: impl Fn(&Labels) -> bool) -> Result<()> {
    let what = format!("remove container {id}");
    let found = match docker.inspect_container(id, None).await {
        Err(err) if failure::is_missing(&err) => return Ok(()),
        found => found.map_err(|err| failure::engine(&what, &err))?,
    };
    if found.id.as_deref() != Some(id) {
        return Err(plain(what, "that is not its exact id"));
    }
    if !ours(&found.config.and_then(|config| config.labels).unwrap_or_default()) {
        return Err(plain(what, "it doesn't carry replab's label"));
    }
    wait::remove(docker, id, &what).await
}

async fn template_image(docker: &Docker, id: &str) -> Result<()> {
    let what = format!("remove template image {id}");
    let found = match docker.inspect_image(id).await {
        Err(err) if failure::is_missing(&err) => return Ok(()),
        found => found.map_err(|err| failure::engine(&what, &err))?,
    };
    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
    if found.id.as_deref() != Some(id) || labels::filled(&labels, labels::TEMPLATE).is_none() {
        return Err(plain(what, "it doesn't carry replab's label"));
    }
    let options = RemoveImageOptionsBuilder::new().force(false).build();
    let removed = docker.remove_image(id, Some(options), None).await.map(|_| ());
    failure::gone_is_fine(removed, what)
}
