//! Methods, paths and queries: names, digests, upload sessions, pages, scopes. The input is a line `METHOD path?query`.
#![no_main]

use http::Method;
use landfast::registry::http::Route;

libfuzzer_sys::fuzz_target!(|line: &str| {
    let (method, target) = line.split_once(' ').unwrap_or(("GET", line));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Ok(method) = method.parse::<Method>() else { return };
    let Ok(route) = Route::parse(&method, path, query) else { return };
    assert!(!route.name().is_empty());
    let target = route.target();
    if let Some(operation) = route.operation() {
        assert_eq!(target.repository, Some(&operation.repository));
        assert!(operation.repository.components().all(|component| component != ".."));
    } else {
        assert!(target.repository.is_none());
    }
    match &route {
        Route::UploadStatus { id, .. }
        | Route::UploadPatch { id, .. }
        | Route::UploadPut { id, .. }
        | Route::UploadCancel { id, .. } => {
            let printed = id.to_string();
            assert_eq!(printed.parse().as_ref(), Ok(id), "{printed}");
        }
        Route::TokenGet(request) => assert!(request.scopes.len() <= 32),
        Route::Catalog(listing) | Route::Repositories(listing) => {
            assert!(listing.n <= landfast::registry::http::route::MAX_PAGE);
        }
        Route::Tags { n, .. } => assert!(*n <= landfast::registry::http::route::MAX_PAGE),
        _ => {}
    }
});
