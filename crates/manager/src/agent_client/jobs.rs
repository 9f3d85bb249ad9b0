//! The agent's jobs: starting, watching and ending them (spec agent.md 2.6).

use std::time::Duration;

use common::api::Endpoint;
use common::api::agent::{
    CopyDir, CopyPaths, CopyPathsRequest, GetJobFiles, GetJobProgress, JobFilesPage, JobFilesQuery,
    JobProgress, JobQuery, JobStarted, MoveDir, MoveDirRequest, StatsDelete, StatsGroup, StatsReset, StopJob,
};
use common::http_client::{decode, endpoint_call};

use super::policy::RetryOn;
use super::{Agent, HostError};

/// What a poll may take beyond the wait it asks for.
const POLL_SLACK: Duration = Duration::from_secs(30);

impl Agent {
    /// Starts to upload a directory; files are deleted once they are confirmed. Returns the job.
    ///
    /// Repeated only while no connection could be made: a lost reply would start a second job on the directory.
    ///
    /// # Errors
    /// See [`HostError`]. After a lost reply a job that nobody owns may run.
    pub async fn move_dir(&self, request: &MoveDirRequest) -> Result<u64, HostError> {
        self.start::<MoveDir>(request).await
    }

    /// Starts to upload a directory; files stay. Otherwise as [`Agent::move_dir`].
    ///
    /// # Errors
    /// As for [`Agent::move_dir`].
    pub async fn copy_dir(&self, request: &MoveDirRequest) -> Result<u64, HostError> {
        self.start::<CopyDir>(request).await
    }

    /// Starts to download files. Otherwise as [`Agent::move_dir`].
    ///
    /// # Errors
    /// As for [`Agent::move_dir`].
    pub async fn copy_paths(&self, request: &CopyPathsRequest) -> Result<u64, HostError> {
        self.start::<CopyPaths>(request).await
    }

    async fn start<E>(&self, request: &E::Body) -> Result<u64, HostError>
    where
        E: Endpoint<Query = (), Reply = JobStarted>,
    {
        let options = self.options().retry(RetryOn::NotSent);
        self.policy()
            .run(&self.host, options, |timeout| async move {
                let mut call = endpoint_call::<E>(&self.base, &[], &(), Some(request))?.timeout(timeout);
                call.url.push_str("?_async=true");
                let (_, bytes) = self.shared.http.send(call).await?;
                decode::<JobStarted>(&E::METHOD, &self.url(E::PATH), &bytes)
            })
            .await
            .map(|started| started.jobid)
    }

    /// Waits up to `wait` for a job to end and says how it stands; `None` when the agent does not know it, e.g.
    /// because it was started again.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn job_progress(&self, job: u64, wait: Duration) -> Result<Option<JobProgress>, HostError> {
        let body = JobQuery { jobid: job, wait: wait.as_secs() };
        let options = self.options().timeout(wait + POLL_SLACK);
        known(self.call::<GetJobProgress>(Some(&body), options).await)
    }

    /// Cancels a job; it ends a little later. An unknown or finished one is no error.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn stop_job(&self, job: u64) -> Result<(), HostError> {
        known(self.call::<StopJob>(Some(&JobQuery { jobid: job, wait: 0 }), self.options()).await).map(drop)
    }

    /// A page of what a job did with each file (capability `job-files`); `None` when the agent does not know it.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn job_files(&self, job: u64, offset: u64) -> Result<Option<JobFilesPage>, HostError> {
        known(self.call::<GetJobFiles>(Some(&JobFilesQuery { jobid: job, offset }), self.options()).await)
    }

    /// Lets the agent forget the statistics and the file list of a job.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn stats_delete(&self, job: u64) -> Result<(), HostError> {
        let body = StatsGroup { group: format!("job/{job}") };
        self.call::<StatsDelete>(Some(&body), self.options()).await.map(drop)
    }

    /// Clears all statistics.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn stats_reset(&self) -> Result<(), HostError> {
        self.call::<StatsReset>(Some(&StatsGroup::default()), self.options()).await.map(drop)
    }
}

/// An unknown job is 404, from an original agent sometimes 500 with that text (spec agent.md 2.6.4).
fn known<T>(outcome: Result<T, HostError>) -> Result<Option<T>, HostError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() || error.answer().contains("job not found") => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::post;
    use common::http_client::RouterLookup;

    use super::super::tests::client_into;
    use super::*;

    const HOST: &str = "192.0.2.11";

    fn agent(router: Router) -> Agent {
        client_into(&[HOST], move |_| Some(router.clone())).on(HOST.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_not_started_twice_after_an_answer_was_lost() {
        let calls = std::sync::Arc::new(AtomicU32::new(0));
        let count = calls.clone();
        let handler = move || {
            count.fetch_add(1, Ordering::Relaxed);
            async { (StatusCode::BAD_GATEWAY, "") }
        };
        let agent = agent(Router::new().route(MoveDir::PATH, post(handler)));
        assert!(agent.move_dir(&MoveDirRequest::default()).await.is_err());
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_connection_is_tried_again_also_for_a_job() {
        let tries = Arc::new(AtomicU32::new(0));
        let count = tries.clone();
        let router = Router::new().route(MoveDir::PATH, post(|| async { r#"{"jobid":7}"# }));
        let lookup: RouterLookup =
            Arc::new(move |_| (count.fetch_add(1, Ordering::Relaxed) >= 2).then(|| router.clone()));
        let client = super::super::AgentClient::new(
            common::http_client::Transport::InProcess(lookup),
            super::super::tests::settings(),
            10001,
            &crate::Secret::default(),
            vec![HOST.parse().unwrap()],
        );
        let job = client.unwrap().on(HOST.parse().unwrap()).move_dir(&MoveDirRequest::default()).await;
        assert_eq!((job.unwrap(), tries.load(Ordering::Relaxed)), (7, 3));
    }

    #[tokio::test]
    async fn unknown_jobs_are_no_errors() {
        let original =
            || async { (StatusCode::INTERNAL_SERVER_ERROR, r#"{"status":500,"message":"job not found"}"#) };
        let ours = || async { (StatusCode::NOT_FOUND, r#"{"status":404,"message":"job not found"}"#) };
        let router =
            Router::new().route(StopJob::PATH, post(original)).route(GetJobProgress::PATH, post(ours));
        let agent =
            client_into(&[HOST], move |_| Some(router.clone())).interactive().on(HOST.parse().unwrap());
        tokio::time::pause();
        agent.stop_job(7).await.unwrap();
        assert!(agent.job_progress(7, Duration::from_secs(10)).await.unwrap().is_none());
    }
}
