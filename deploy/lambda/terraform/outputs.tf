output "sidecar_url" {
  description = "The label sidecarURL. A slash at its end does no harm."
  value       = aws_lambda_function_url.sidecar.function_url
}

output "function_name" {
  description = "Name of the function."
  value       = aws_lambda_function.sidecar.function_name
}

output "log_group" {
  description = "Name of the log group."
  value       = aws_cloudwatch_log_group.sidecar.name
}
