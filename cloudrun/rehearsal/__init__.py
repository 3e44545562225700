"""A cloud that only rehearses: it answers as AWS does, costs nothing and knows every mishap.

It is moto's AWS with what moto lacks: machines that take their time, refuse to
come, vanish or cost money after they were forgotten. Tests and
`cloudrun launch --rehearse` talk to it over HTTP through AWS_ENDPOINT_URL.
Needs the extra `cloudrun[rehearse]`.
"""
