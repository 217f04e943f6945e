"""HTTP below the routes: connections, bodies, forms, content codings."""
