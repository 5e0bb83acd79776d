// In place of k8s.io/client-go, for a Prometheus that asks no Kubernetes.
module k8s.io/client-go

go 1.26.0
