//! cron, systemd and Kubernetes, as the documentation has them.
