use axum::body::Body;
use http::Request;
use tower::{Service, ServiceBuilder};
use tower_oauth2_client::{AddAccessTokenLayer, HttpsClient, add_access_token::CloneBody};

pub fn api(http: HttpsClient<Body>, layer: AddAccessTokenLayer) -> impl Service<Request<Body>> {
    ServiceBuilder::new()
        .layer(layer.resend(CloneBody))
        .service(http)
}
