"""Facts into kernel routes, links and addresses. No I/O: values in, values out."""
