//! Registries of several pods on a bucket: rolled under load, scaled, and what they say when the bucket is out of reach.

use std::cell::{Cell, RefCell};

use serde_json::{Value, json};

use crate::harness::{Bucket, Cluster, Command, Image, Login, Remote, environment, eventually, test};

const SAMPLE: &str = "config/samples/s3.yaml";

/// The objects of the sample, in this namespace and on this bucket: what a person sets in it.
fn sample(namespace: &str, bucket: &Bucket) -> Vec<Value> {
    let path = environment::repository().join(SAMPLE);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut objects: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{SAMPLE}: {error}"));
    objects.retain(|object| !object.is_null());
    for object in &mut objects {
        object["metadata"]["namespace"] = json!(namespace);
        match object["kind"].as_str() {
            Some("Secret") => {
                object["stringData"]["accessKeyId"] = json!(bucket.access_key_id);
                object["stringData"]["secretAccessKey"] = json!(bucket.secret_access_key);
            }
            Some("Registry") => object["spec"]["storage"]["s3"]["endpoint"] = json!(bucket.endpoint()),
            _ => {}
        }
    }
    objects
}

async fn apply(cluster: &Cluster, namespace: &str, objects: Vec<Value>) {
    for object in objects {
        cluster.create(namespace, object).await;
    }
}

/// Waits until the column of the pods says this.
async fn pods(cluster: &Cluster, namespace: &str, expected: &str) {
    eventually(&format!("the pods of {namespace}/main are {expected}"), async || {
        let status = cluster.get("Registry", namespace, "main").await["status"].clone();
        if status["pods"] == expected { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// The robot of the sample. Each of the pods has to know it: ten answers in a row.
async fn robot(cluster: &Cluster, namespace: &str, remote: &Remote) -> Login {
    let login = cluster.login(namespace, "team-s3-ci", &remote.host).await;
    eventually("every pod knows the robot", async || {
        for _ in 0..10 {
            let answer = remote.try_request("GET", "/v2/", Some(&login)).await?;
            if answer.status != 200 {
                return Err(format!("{}: {}", answer.status, answer.text()));
            }
        }
        Ok(())
    })
    .await;
    login
}

#[test]
#[ignore = "needs a node that trusts the registry and reaches it and this machine"]
fn three_pods_on_a_bucket_are_replaced_without_a_failed_pull() {
    test(async |cluster: &Cluster| {
        let home = cluster.namespace("bucket").await;
        let bucket = Bucket::start().await;
        apply(cluster, &home, sample(&home, &bucket)).await;
        cluster.condition("Registry", &home, "main", "Ready", "True").await;
        pods(cluster, &home, "3/3").await;
        let columns = Command::new("kubectl").args(["get", "registry", "main", "--namespace", &home]).run().await;
        assert!(columns.contains("PODS") && columns.contains("3/3"), "{columns}");

        let remote = cluster.remote(&home, "main").await;
        let login = robot(cluster, &home, &remote).await;
        let image = Image::build(cluster.folder.path(), &cluster.unique, 20_000_000);
        remote.push(&image, "team-s3/app:v1", Some(&login)).await.unwrap();
        assert!(bucket.folder().join("registries/main").is_dir(), "images are below the prefix");
        let expected = (image.digest.clone(), image.layers.clone());

        let (_, before) = cluster.registry_pods(&home, "main").await;
        assert_eq!(before.len(), 3);
        let (rolled, pulls, failures) = (Cell::new(false), Cell::new(0), RefCell::new(Vec::new()));
        let pulling = async {
            while !rolled.get() {
                match remote.pull("team-s3/app:v1", Some(&login)).await {
                    Ok(pulled) => assert_eq!(pulled, expected),
                    Err(error) => failures.borrow_mut().push(error),
                }
                pulls.set(pulls.get() + 1);
            }
        };
        // A client without any second try.
        let asking = async {
            while !rolled.get() {
                match remote.try_request("GET", "/v2/team-s3/app/manifests/v1", Some(&login)).await {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => failures.borrow_mut().push(format!("{}: {}", answer.status, answer.text())),
                    Err(error) => failures.borrow_mut().push(error),
                }
            }
        };
        let rolling = async {
            let annotations = json!({"spec": {"pod": {"annotations": {"landfast.test/roll": "1"}}}});
            cluster.patch("Registry", &home, "main", annotations).await;
            eventually("all pods are others", async || {
                let (_, now) = cluster.registry_pods(&home, "main").await;
                let status = cluster.get("Registry", &home, "main").await["status"].clone();
                let replaced = now.len() == 3 && !now.iter().any(|pod| before.iter().any(|old| old.uid == pod.uid));
                if replaced && status["pods"] == "3/3" { Ok(()) } else { Err(format!("{now:?}, {}", status["pods"])) }
            })
            .await;
            // The last old one is told to end only now.
            eventually("the old pods are gone", async || {
                let selector = cluster.get("Registry", &home, "main").await["status"]["selector"].clone();
                let there = cluster.list("Pod", &home, selector.as_str().unwrap_or_default()).await.len();
                if there == 3 { Ok(()) } else { Err(format!("{there} pods")) }
            })
            .await;
            rolled.set(true);
        };
        futures::join!(pulling, asking, rolling);
        println!("{} pulls during the roll-out", pulls.get());
        assert_eq!(failures.into_inner(), Vec::<String>::new());
        assert!(pulls.get() > 1, "there was a pull at each time");
        cluster.condition("Registry", &home, "main", "Progressing", "False").await;
    });
}

#[test]
#[ignore = "needs a node that reaches this machine"]
fn a_registry_says_what_keeps_it_from_its_bucket() {
    test(async |cluster: &Cluster| {
        let home = cluster.namespace("keyless").await;
        let bucket = Bucket::start().await;
        let objects = sample(&home, &bucket);
        let (secrets, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object["kind"] == "Secret");
        apply(cluster, &home, others).await;
        let missing = cluster.reason("Registry", &home, "main", "Ready", "CredentialsSecretMissing").await;
        assert!(missing["message"].as_str().is_some_and(|text| text.contains("main-s3")), "{missing}");

        let mut secret = secrets[0].clone();
        secret["stringData"] = json!({"accessKeyId": bucket.access_key_id});
        cluster.create(&home, secret).await;
        eventually("the missing entry is named", async || {
            let registry = cluster.get("Registry", &home, "main").await;
            let text = registry["status"]["conditions"].to_string();
            if text.contains("has no entry secretAccessKey") { Ok(()) } else { Err(text) }
        })
        .await;

        // A key that is there but wrong: the process itself says so.
        let wrong = "not-the-key-of-this-service";
        cluster.patch("Secret", &home, "main-s3", json!({"stringData": {"secretAccessKey": wrong}})).await;
        let failing = cluster.reason("Registry", &home, "main", "Ready", "PodsFailing").await;
        let message = failing["message"].as_str().unwrap_or_default();
        assert!(message.contains("bucket \"images\" can't be used"), "{message}");
        let registry = cluster.get("Registry", &home, "main").await.to_string();
        assert!(!registry.contains(wrong) && !registry.contains(&bucket.access_key_id), "no key in the status");

        let right = json!({"stringData": {"secretAccessKey": bucket.secret_access_key}});
        cluster.patch("Secret", &home, "main-s3", right).await;
        cluster.condition("Registry", &home, "main", "Ready", "True").await;
    });
}

#[test]
#[ignore = "needs a node that reaches this machine"]
fn an_autoscaler_takes_over_and_gives_back_the_number_of_pods() {
    test(async |cluster: &Cluster| {
        let home = cluster.namespace("scaled").await;
        let bucket = Bucket::start().await;
        let mut objects = sample(&home, &bucket);
        for object in objects.iter_mut().filter(|object| object["kind"] == "Registry") {
            object["spec"]["pod"] = json!({"resources": {"requests": {"cpu": "10m"}}});
        }
        apply(cluster, &home, objects).await;
        pods(cluster, &home, "3/3").await;
        let (_, before) = cluster.registry_pods(&home, "main").await;

        let autoscaling = json!({"spec": {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}}});
        cluster.patch("Registry", &home, "main", autoscaling).await;
        let autoscaler = cluster.appears("HorizontalPodAutoscaler", &home, "main").await;
        assert_eq!((&autoscaler["spec"]["minReplicas"], &autoscaler["spec"]["maxReplicas"]), (&json!(2), &json!(5)));
        cluster.condition("Registry", &home, "main", "Ready", "True").await;
        let (_, after) = cluster.registry_pods(&home, "main").await;
        assert_eq!(after, before, "no pod is lost on the way");

        // As the autoscaler does it.
        let scale = ["scale", "deployment/main", "--replicas=4", "--namespace", &home];
        Command::new("kubectl").args(scale).run().await;
        pods(cluster, &home, "4/4").await;
        // Something for the operator to write, which must leave the number alone.
        let annotations = json!({"spec": {"exposure": {"service": {"annotations": {"landfast.test/x": "1"}}}}});
        cluster.patch("Registry", &home, "main", annotations).await;
        cluster.condition("Registry", &home, "main", "Ready", "True").await;
        assert_eq!(cluster.get("Deployment", &home, "main").await["spec"]["replicas"], 4);

        cluster.patch("Registry", &home, "main", json!({"spec": {"autoscaling": null}})).await;
        cluster.gone("HorizontalPodAutoscaler", &home, "main").await;
        pods(cluster, &home, "3/3").await;
        cluster.patch("Registry", &home, "main", json!({"spec": {"replicas": 0}})).await;
        pods(cluster, &home, "0/0").await;
        cluster.reason("Registry", &home, "main", "Ready", "ScaledToZero").await;
        cluster.gone("PodDisruptionBudget", &home, "main").await;
    });
}
