"""Files for other programs: conversion with a list of what is lost, and conformance to standards."""
