variable "name" {
  description = "Name of the function and of what belongs to it."
  type        = string
  default     = "mcpbouncer"
}

variable "zip" {
  description = "Path of the zip that `go run ./deploy/lambda/zip` wrote."
  type        = string
}

variable "architecture" {
  description = "Processor that the zip was built for: arm64, or x86_64 for amd64."
  type        = string
  default     = "arm64"
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "Give arm64 or x86_64."
  }
}

variable "encryption_key_reference" {
  description = "BOUNCER_ENCRYPTION_KEY as a reference: ssm:NAME or secretsmanager:ARN. Reading it needs extension_layer."
  type        = string
  default     = "ssm:/mcpbouncer/key"
  validation {
    condition     = can(regex("^(ssm|secretsmanager):.+$", var.encryption_key_reference))
    error_message = "Give ssm:NAME or secretsmanager:ARN. The key itself goes into encryption_key."
  }
}

variable "encryption_key" {
  description = "In place of encryption_key_reference, the key itself, which then stands in Terraform's state and in the function's configuration."
  type        = string
  default     = null
  sensitive   = true
  validation {
    condition     = var.encryption_key == null ? true : can(regex("^[A-Za-z0-9+/=, ]+$", var.encryption_key))
    error_message = "Give the key itself, in base64. What names it goes into encryption_key_reference."
  }
}

variable "variables" {
  description = "Further variables of the sidecar, such as GOOGLE_CLIENT_SECRET = \"ssm:/mcpbouncer/google\"."
  type        = map(string)
  default     = {}
}

variable "extension_layer" {
  description = "ARN of the layer AWS-Parameters-and-Secrets-Lambda-Extension (for arm64 -Arm64) in this region. Needed where a secret is only named."
  type        = string
  default     = null
}

variable "parameter_prefix" {
  description = "The function may read the parameters below it, if it has the layer."
  type        = string
  default     = "/mcpbouncer"
}

variable "secret_arns" {
  description = "ARNs of the secrets of Secrets Manager that the function may read, if it has the layer."
  type        = list(string)
  default     = []
}

variable "kms_key_arn" {
  description = "Key of your own that parameters or secrets are encrypted with. Those of AWS need no permission."
  type        = string
  default     = null
}

variable "url_auth_type" {
  description = "NONE lets everybody ask, and the hop header decides. AWS_IAM is a second lock before it; it needs the label sidecarAuth=sigv4."
  type        = string
  default     = "NONE"
  validation {
    condition     = contains(["NONE", "AWS_IAM"], var.url_auth_type)
    error_message = "Give NONE or AWS_IAM."
  }
}

variable "invoker_arn" {
  description = "With AWS_IAM, the ARN of the role or user that Traefik signs as."
  type        = string
  default     = null
  validation {
    condition     = var.invoker_arn == null ? true : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+$", var.invoker_arn))
    error_message = "Give the ARN of a role or a user. An asterisk would let every AWS account in."
  }
}

variable "invoke_mode" {
  description = "How answers leave: BUFFERED or RESPONSE_STREAM. Both do the same; BUFFERED is the simpler one."
  type        = string
  default     = "BUFFERED"
  validation {
    condition     = contains(["BUFFERED", "RESPONSE_STREAM"], var.invoke_mode)
    error_message = "Give BUFFERED or RESPONSE_STREAM."
  }
}

variable "memory_size" {
  description = "Megabytes. The program needs 25; more of them is more processor."
  type        = number
  default     = 256
}

variable "reserved_concurrency" {
  description = "Requests at a time, which is also the most that strangers can cost. -1 reserves none, for accounts whose whole quota is 10."
  type        = number
  default     = 10
}

variable "log_level" {
  description = "debug, info, warn or error."
  type        = string
  default     = "info"
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 30
}

variable "deny_document" {
  description = "BOUNCER_DENY, the https URL of the deny document."
  type        = string
  default     = null
}

variable "replay_guard" {
  description = "Whether a table remembers which codes and refresh tokens were used. docs/replay.md says what it adds."
  type        = bool
  default     = false
}

variable "metrics" {
  description = "BOUNCER_METRICS_EMF, custom metrics in CloudWatch, which cost money. docs/metrics.md says which."
  type        = bool
  default     = false
}

variable "alarm_topic_arn" {
  description = "SNS topic that alarms are sent to. Without one they are shown in CloudWatch only."
  type        = string
  default     = null
}
