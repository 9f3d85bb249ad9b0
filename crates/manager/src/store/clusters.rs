//! Stored clusters. Their rows live until they are deleted; nothing here expires.

use std::collections::BTreeMap;
use std::net::IpAddr;

use common::ids::ClusterId;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use super::{Store, StoreError, get_id, get_json, json_text};
use common::secret::Secret;

/// A managed cluster as it is stored. Credentials are apart, see [`super::secrets`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its ID.
    pub id: ClusterId,
    /// May be empty; unique otherwise.
    pub name: String,
    /// Free key-value pairs.
    pub labels: BTreeMap<String, String>,
    /// First contact point, DNS name or IP, as the user gave it.
    pub host: String,
    /// All nodes of reachable datacenters, nearest datacenter first.
    pub known_hosts: Vec<IpAddr>,
    /// Port of the agents; 0 when the user gave none.
    pub port: u16,
    /// Token of the agents.
    pub auth_token: Secret,
    /// Never TLS for CQL.
    pub force_tls_disabled: bool,
    /// Plain CQL port even with TLS.
    pub force_non_ssl_session_port: bool,
}

/// Port of an agent where the cluster names none.
pub const DEFAULT_AGENT_PORT: u16 = 10001;

impl Cluster {
    /// Port of the agents.
    pub fn agent_port(&self) -> u16 {
        if self.port == 0 { DEFAULT_AGENT_PORT } else { self.port }
    }

    /// What people call it: its name, else its ID.
    pub fn display_name(&self) -> String {
        if self.name.is_empty() { self.id.to_string() } else { self.name.clone() }
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: get_id(row, "id")?,
            name: row.get("name")?,
            labels: get_json(row, "labels")?,
            host: row.get("host")?,
            known_hosts: get_json(row, "known_hosts")?,
            port: row.get("port")?,
            auth_token: Secret::new(row.get::<_, String>("auth_token")?),
            force_tls_disabled: row.get("force_tls_disabled")?,
            force_non_ssl_session_port: row.get("force_non_ssl_session_port")?,
        })
    }
}

impl Store {
    /// All clusters, by ID.
    ///
    /// # Errors
    /// The database failed.
    pub async fn clusters(&self) -> Result<Vec<Cluster>, StoreError> {
        self.read(|c| {
            let mut statement = c.prepare("SELECT * FROM cluster ORDER BY id")?;
            let mut rows = statement.query([])?;
            let mut clusters = Vec::new();
            while let Some(row) = rows.next()? {
                clusters.push(Cluster::from_row(row)?);
            }
            Ok(clusters)
        })
        .await
    }

    /// One cluster.
    ///
    /// # Errors
    /// The database failed.
    pub async fn cluster(&self, id: ClusterId) -> Result<Option<Cluster>, StoreError> {
        self.read(move |c| find(c, "SELECT * FROM cluster WHERE id = ?1", &id.to_string())).await
    }

    /// The cluster of that name; an empty name finds none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn cluster_by_name(&self, name: &str) -> Result<Option<Cluster>, StoreError> {
        if name.is_empty() {
            return Ok(None);
        }
        let name = name.to_owned();
        self.read(move |c| find(c, "SELECT * FROM cluster WHERE name = ?1", &name)).await
    }

    /// Writes a cluster and the secrets that came with it, all or nothing.
    ///
    /// Known hosts of a cluster that exists already are kept when `cluster` has none.
    ///
    /// # Errors
    /// The database failed, or the name is taken.
    pub async fn put_cluster(&self, cluster: &Cluster, secrets: super::Secrets) -> Result<(), StoreError> {
        let cluster = cluster.clone();
        self.write(move |tx| {
            put(tx, &cluster)?;
            super::secrets::put(tx, cluster.id, &secrets)
        })
        .await
    }

    /// Replaces the known hosts of a cluster; nothing happens when it is gone.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_known_hosts(&self, id: ClusterId, hosts: &[IpAddr]) -> Result<(), StoreError> {
        let hosts = json_text(&hosts)?;
        self.write(move |tx| {
            tx.execute("UPDATE cluster SET known_hosts = ?2 WHERE id = ?1", (id.to_string(), hosts))?;
            Ok(())
        })
        .await
    }

    /// Deletes a cluster with its secrets and its drawer; its tasks and runs stay. Says whether it was there.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_cluster(&self, id: ClusterId) -> Result<bool, StoreError> {
        self.write(move |tx| {
            let id = id.to_string();
            tx.execute("DELETE FROM secrets WHERE cluster_id = ?1", [&id])?;
            tx.execute("DELETE FROM drawer WHERE cluster_id = ?1", [&id])?;
            Ok(tx.execute("DELETE FROM cluster WHERE id = ?1", [&id])? > 0)
        })
        .await
    }
}

fn find(connection: &Connection, sql: &str, key: &str) -> Result<Option<Cluster>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    statement.query_row([key], |row| Ok(Cluster::from_row(row))).optional()?.transpose()
}

fn put(tx: &Transaction<'_>, cluster: &Cluster) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO cluster (id, name, labels, host, known_hosts, port, auth_token, force_tls_disabled, \
             force_non_ssl_session_port) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
         ON CONFLICT (id) DO UPDATE SET name = ?2, labels = ?3, host = ?4, port = ?6, auth_token = ?7, \
             force_tls_disabled = ?8, force_non_ssl_session_port = ?9, \
             known_hosts = CASE ?5 WHEN '[]' THEN known_hosts ELSE ?5 END",
        rusqlite::params![
            cluster.id.to_string(),
            cluster.name,
            json_text(&cluster.labels)?,
            cluster.host,
            json_text(&cluster.known_hosts)?,
            cluster.port,
            cluster.auth_token.expose(),
            cluster.force_tls_disabled,
            cluster.force_non_ssl_session_port,
        ],
    )?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::store::Secrets;
    use crate::store::tests::scratch;

    pub(crate) fn sample(name: &str) -> Cluster {
        Cluster {
            id: ClusterId::random(),
            name: name.to_owned(),
            labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
            host: "node.example".to_owned(),
            known_hosts: vec!["192.0.2.11".parse().unwrap()],
            port: 0,
            auth_token: Secret::new("token"),
            force_tls_disabled: false,
            force_non_ssl_session_port: true,
        }
    }

    #[tokio::test]
    async fn clusters_are_found_by_id_and_name() {
        let (_dir, store) = scratch().await;
        let (a, b) = (sample("a"), sample(""));
        store.put_cluster(&a, Secrets::default()).await.unwrap();
        store.put_cluster(&b, Secrets::default()).await.unwrap();
        store.put_cluster(&sample(""), Secrets::default()).await.unwrap();
        assert_eq!(store.cluster(a.id).await.unwrap(), Some(a.clone()));
        assert_eq!(store.cluster_by_name("a").await.unwrap(), Some(a.clone()));
        assert_eq!(store.cluster_by_name("").await.unwrap(), None);
        assert!(store.put_cluster(&sample("a"), Secrets::default()).await.is_err(), "the name is taken");
        assert_eq!(store.clusters().await.unwrap().len(), 3);
        assert!(!format!("{a:?}").contains("token\""), "{a:?}");
    }

    #[tokio::test]
    async fn an_update_keeps_known_hosts_unless_it_brings_some() {
        let (_dir, store) = scratch().await;
        let mut cluster = sample("a");
        store.put_cluster(&cluster, Secrets::default()).await.unwrap();
        let hosts: Vec<IpAddr> = vec!["192.0.2.12".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        store.set_known_hosts(cluster.id, &hosts).await.unwrap();
        cluster.known_hosts.clear();
        cluster.host = "other".into();
        store.put_cluster(&cluster, Secrets::default()).await.unwrap();
        let stored = store.cluster(cluster.id).await.unwrap().unwrap();
        assert_eq!((stored.known_hosts, stored.host.as_str()), (hosts, "other"));
        assert!(store.delete_cluster(cluster.id).await.unwrap());
        assert!(!store.delete_cluster(cluster.id).await.unwrap());
    }
}
