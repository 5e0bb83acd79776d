# The same as ../template.yaml.

data "aws_partition" "current" {}
data "aws_region" "current" {}
data "aws_caller_identity" "current" {}

locals {
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.region
  account_id = data.aws_caller_identity.current.account_id
  public     = var.url_auth_type == "NONE"
}

resource "aws_lambda_function" "sidecar" {
  function_name                  = var.name
  description                    = "OAuth for MCP servers behind Traefik"
  runtime                        = "provided.al2023"
  handler                        = "bootstrap"
  architectures                  = [var.architecture]
  filename                       = var.zip
  source_code_hash               = filebase64sha256(var.zip)
  role                           = aws_iam_role.sidecar.arn
  layers                         = compact([var.extension_layer])
  memory_size                    = var.memory_size
  timeout                        = 60 # longer than everything that an answer waits for
  reserved_concurrent_executions = var.reserved_concurrency

  logging_config {
    log_format = "Text" # the program's lines are JSON already
    log_group  = aws_cloudwatch_log_group.sidecar.name
  }

  environment {
    variables = merge(var.variables, var.deny_document == null ? {} : { BOUNCER_DENY = var.deny_document }, {
      BOUNCER_ENCRYPTION_KEY     = var.encryption_key == null ? var.encryption_key_reference : var.encryption_key
      BOUNCER_LAMBDA_INVOKE_MODE = var.invoke_mode
      BOUNCER_LOG_LEVEL          = var.log_level
      BOUNCER_METRICS_EMF        = tostring(var.metrics)
      BOUNCER_REPLAY_GUARD       = var.replay_guard ? "dynamodb://${aws_dynamodb_table.guard[0].name}" : "none"
    })
  }

  lifecycle {
    precondition {
      condition     = var.extension_layer != null || nonsensitive(var.encryption_key != null)
      error_message = "encryption_key_reference only names the key: extension_layer is needed to read it."
    }
    precondition {
      condition     = local.public || var.invoker_arn != null
      error_message = "With AWS_IAM nobody may ask but invoker_arn, so it must say who."
    }
  }
}

resource "aws_lambda_function_url" "sidecar" {
  function_name      = aws_lambda_function.sidecar.function_name
  authorization_type = var.url_auth_type
  invoke_mode        = var.invoke_mode
}

# AWS wants two permissions of whoever asks a Function URL: for the URL, and for the function by way of it. How many there are must not depend on the
# invoker: where Traefik's role is made in the same run, Terraform does not know its ARN, nor that there is one, when it plans.
resource "aws_lambda_permission" "url" {
  function_name          = aws_lambda_function.sidecar.function_name
  action                 = "lambda:InvokeFunctionUrl"
  principal              = local.public ? "*" : var.invoker_arn
  function_url_auth_type = var.url_auth_type
}

resource "aws_lambda_permission" "function" {
  function_name            = aws_lambda_function.sidecar.function_name
  action                   = "lambda:InvokeFunction"
  principal                = local.public ? "*" : var.invoker_arn
  invoked_via_function_url = true
}

# All that the function may do.
resource "aws_iam_role" "sidecar" {
  name_prefix = "${var.name}-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

data "aws_iam_policy_document" "sidecar" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.sidecar.arn}:*"]
  }
  dynamic "statement" {
    for_each = var.extension_layer == null ? [] : [1]
    content {
      actions   = ["ssm:GetParameter"]
      resources = ["arn:${local.partition}:ssm:${local.region}:${local.account_id}:parameter${var.parameter_prefix}/*"]
    }
  }
  dynamic "statement" {
    for_each = var.extension_layer == null || length(var.secret_arns) == 0 ? [] : [1]
    content {
      actions   = ["secretsmanager:GetSecretValue"]
      resources = var.secret_arns
    }
  }
  dynamic "statement" {
    for_each = var.extension_layer == null || var.kms_key_arn == null ? [] : [1]
    content {
      actions   = ["kms:Decrypt"]
      resources = [var.kms_key_arn]
      condition { # not what else the key has encrypted
        test     = "StringLike"
        variable = "kms:ViaService"
        values   = ["ssm.${local.region}.amazonaws.com*", "secretsmanager.${local.region}.amazonaws.com*"]
      }
    }
  }
  dynamic "statement" {
    for_each = aws_dynamodb_table.guard
    content {
      actions   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"]
      resources = [statement.value.arn]
    }
  }
}

resource "aws_iam_role_policy" "sidecar" {
  name   = "sidecar"
  role   = aws_iam_role.sidecar.id
  policy = data.aws_iam_policy_document.sidecar.json
}

resource "aws_cloudwatch_log_group" "sidecar" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
}

# Losing it logs nobody out: it only remembers what was used.
resource "aws_dynamodb_table" "guard" {
  count        = var.replay_guard ? 1 : 0
  name         = "${var.name}-guard"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "pk"

  attribute {
    name = "pk"
    type = "S"
  }

  ttl {
    attribute_name = "exp"
    enabled        = true
  }

  server_side_encryption {
    enabled = true
  }
}

locals {
  alarms = {
    Errors      = { threshold = 0, description = "The function ends without an answer. Its log says why." }
    Url5xxCount = { threshold = 5, description = "Answers of 5xx: a secret cannot be read, or the provider is away." }
    Throttles   = { threshold = 0, description = "reserved_concurrency is used up: many logins, or strangers at the URL." }
  }
}

resource "aws_cloudwatch_metric_alarm" "sidecar" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/Lambda"
  metric_name         = each.key
  dimensions          = { FunctionName = aws_lambda_function.sidecar.function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = compact([var.alarm_topic_arn])
}
