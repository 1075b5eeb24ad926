//! Counts and times what a store is asked for.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::{
    BodyStream, ByteRange, Condition, DeleteCondition, Key, Object, ObjectMeta, ObjectStore, Page, Prefix, Put, Stage,
    StageId, StageState, StageWriter, StorageError, Version,
};
use crate::telemetry::{Metrics, traced};

/// From a file that is in memory to a slow answer of a remote store, in seconds.
const BUCKETS: [f64; 10] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 2.5, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    backend: &'static str,
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    backend: &'static str,
    operation: &'static str,
    result: &'static str,
}

/// What stores are asked for.
#[derive(Clone, Copy)]
enum Operation {
    Head,
    Get,
    Put,
    PutAll,
    Delete,
    List,
    StageCreate,
    StageState,
    StageAppend,
    StageWrite,
    StageFinish,
    StagePublish,
    StageRead,
    StageAbort,
    StageList,
    RemoveRemains,
}

impl Operation {
    /// In the order in which they are declared.
    const NAMES: [&'static str; 16] = [
        "head",
        "get",
        "put",
        "put_all",
        "delete",
        "list",
        "stage_create",
        "stage_state",
        "stage_append",
        "stage_write",
        "stage_finish",
        "stage_publish",
        "stage_read",
        "stage_abort",
        "stage_list",
        "remove_remains",
    ];
}

/// The counters of one operation, looked up once.
struct Counters {
    done: Counter,
    seconds: Histogram,
}

/// The counters of one store.
struct StoreMetrics {
    backend: &'static str,
    results: Family<ResultLabels, Counter>,
    operations: [Counters; Operation::NAMES.len()],
}

impl StoreMetrics {
    fn register(metrics: &Metrics, backend: &'static str) -> Self {
        let results = Family::<ResultLabels, Counter>::default();
        let seconds = Family::<OperationLabels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        metrics.register(|registry| {
            registry.register("storage_operations", "What the store was asked for, by result", results.clone());
            registry.register(
                "storage_operation_duration_seconds",
                "Time of the store's answers; without that in which content is read from it",
                seconds.clone(),
            );
        });
        let operations = Operation::NAMES.map(|operation| Counters {
            done: results.get_or_create_owned(&ResultLabels { backend, operation, result: "done" }),
            seconds: seconds.get_or_create_owned(&OperationLabels { backend, operation }),
        });
        Self { backend, results, operations }
    }

    async fn count<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let started = Instant::now();
        let result = traced("storage", Operation::NAMES[operation as usize], work).await;
        let Counters { done, seconds } = &self.operations[operation as usize];
        seconds.observe(started.elapsed().as_secs_f64());
        match &result {
            Ok(_) => done.inc(),
            Err(error) => {
                let (backend, operation) = (self.backend, Operation::NAMES[operation as usize]);
                self.results.get_or_create(&ResultLabels { backend, operation, result: result_label(error) }).inc()
            }
        };
        result
    }
}

/// Only the last two mean that something is wrong with the store.
fn result_label(error: &StorageError) -> &'static str {
    match error {
        StorageError::NotFound(_) => "not_found",
        StorageError::PreconditionFailed(_) => "precondition_failed",
        StorageError::KeyConflict(_) => "key_conflict",
        StorageError::RangeNotSatisfiable { .. } => "range_not_satisfiable",
        StorageError::Busy(_) => "busy",
        StorageError::ReadOnly => "read_only",
        StorageError::OutOfSpace => "out_of_space",
        StorageError::Unavailable { .. } => "unavailable",
        StorageError::Io { .. } => "error",
    }
}

/// A store whose operations are counted.
pub struct MeteredStore {
    store: Arc<dyn ObjectStore>,
    metrics: Arc<StoreMetrics>,
}

impl MeteredStore {
    /// `backend` is the store's name in the metrics. To be called once for each [`Metrics`].
    pub fn new(store: Arc<dyn ObjectStore>, backend: &'static str, metrics: &Metrics) -> Self {
        Self { store, metrics: Arc::new(StoreMetrics::register(metrics, backend)) }
    }
}

#[async_trait]
impl ObjectStore for MeteredStore {
    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, StorageError> {
        self.metrics.count(Operation::Head, self.store.head(key)).await
    }

    async fn get(&self, key: &Key, range: Option<ByteRange>) -> Result<Object, StorageError> {
        self.metrics.count(Operation::Get, self.store.get(key, range)).await
    }

    async fn put(&self, key: &Key, content: Bytes, condition: Condition) -> Result<Version, StorageError> {
        self.metrics.count(Operation::Put, self.store.put(key, content, condition)).await
    }

    async fn put_all(&self, puts: Vec<Put>) -> Result<(), StorageError> {
        self.metrics.count(Operation::PutAll, self.store.put_all(puts)).await
    }

    async fn delete(&self, key: &Key, condition: DeleteCondition) -> Result<(), StorageError> {
        self.metrics.count(Operation::Delete, self.store.delete(key, condition)).await
    }

    async fn list(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        delimiter: bool,
    ) -> Result<Page, StorageError> {
        self.metrics.count(Operation::List, self.store.list(prefix, after, limit, delimiter)).await
    }

    async fn stage_create(&self, id: &StageId) -> Result<(), StorageError> {
        self.metrics.count(Operation::StageCreate, self.store.stage_create(id)).await
    }

    async fn stage_state(&self, id: &StageId) -> Result<StageState, StorageError> {
        self.metrics.count(Operation::StageState, self.store.stage_state(id)).await
    }

    async fn stage_append(&self, id: &StageId, at: u64) -> Result<Box<dyn StageWriter>, StorageError> {
        let writer = self.metrics.count(Operation::StageAppend, self.store.stage_append(id, at)).await?;
        Ok(Box::new(MeteredWriter { writer, metrics: Arc::clone(&self.metrics) }))
    }

    async fn stage_read(&self, id: &StageId) -> Result<BodyStream, StorageError> {
        self.metrics.count(Operation::StageRead, self.store.stage_read(id)).await
    }

    async fn stage_abort(&self, id: &StageId) -> Result<(), StorageError> {
        self.metrics.count(Operation::StageAbort, self.store.stage_abort(id)).await
    }

    async fn stage_list(&self, after: Option<&StageId>, limit: usize) -> Result<Vec<Stage>, StorageError> {
        self.metrics.count(Operation::StageList, self.store.stage_list(after, limit)).await
    }

    async fn remove_remains(&self, limit: SystemTime) -> Result<usize, StorageError> {
        self.metrics.count(Operation::RemoveRemains, self.store.remove_remains(limit)).await
    }
}

struct MeteredWriter {
    writer: Box<dyn StageWriter>,
    metrics: Arc<StoreMetrics>,
}

#[async_trait]
impl StageWriter for MeteredWriter {
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StorageError> {
        self.metrics.count(Operation::StageWrite, self.writer.write(pieces)).await
    }

    async fn finish(self: Box<Self>, memo: Bytes) -> Result<u64, StorageError> {
        self.metrics.count(Operation::StageFinish, self.writer.finish(memo)).await
    }

    async fn publish(self: Box<Self>, key: &Key) -> Result<(), StorageError> {
        self.metrics.count(Operation::StagePublish, self.writer.publish(key)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::storage::memory::MemoryStore;

    #[tokio::test]
    async fn counts_each_operation_by_its_result() {
        let metrics = Metrics::new();
        let store = MeteredStore::new(Arc::new(MemoryStore::new()), "memory", &metrics);
        let (key, id) = (Key::new("a").unwrap(), StageId::random());
        store.head(&key).await.unwrap_err();
        store.stage_create(&id).await.unwrap();
        let mut writer = store.stage_append(&id, 0).await.unwrap();
        writer.write(vec![Bytes::from_static(b"content")]).await.unwrap();
        writer.publish(&key).await.unwrap();
        store.head(&key).await.unwrap();
        let text = metrics.encode().unwrap();
        for (operation, result) in
            [("head", "not_found"), ("head", "done"), ("stage_append", "done"), ("stage_publish", "done")]
        {
            let labels = format!("backend=\"memory\",operation=\"{operation}\"");
            let line = format!("landfast_storage_operations_total{{{labels},result=\"{result}\"}} 1\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        let count = "landfast_storage_operation_duration_seconds_count{backend=\"memory\",operation=\"head\"} 2\n";
        assert!(text.contains(count), "{text}");
    }
}
